//! Commands that create custom metrics in an account.
//!
//! In: a name and a type. Out: a line for a shell. Names are checked, so nothing in them needs quoting.

/// `aws iot create-custom-metric …` for one metric. The token makes a repeated command harmless: AWS answers the same
/// token with the same parameters as it did the first time.
#[must_use]
pub fn create(name: &str, metric_type: &str) -> String {
    let token = crc32fast::hash(format!("{name} {metric_type}").as_bytes());
    format!(
        "aws iot create-custom-metric --metric-name {name} --metric-type {metric_type} \
         --client-request-token edgewarden-{token:08x}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_run_and_run_again() {
        let line = create("eth_out:eth0", "number");
        assert!(
            line.starts_with(
                "aws iot create-custom-metric --metric-name eth_out:eth0 --metric-type number --client"
            ),
            "{line}"
        );
        let token = line.rsplit(' ').next().unwrap();
        assert!((1..=64).contains(&token.len()), "{token}");
        assert_eq!(line, create("eth_out:eth0", "number"));
        assert_ne!(
            token,
            create("eth_out:eth0", "number-list").rsplit(' ').next().unwrap()
        );
    }
}
