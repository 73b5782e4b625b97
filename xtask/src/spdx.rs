//! Decides whether a licence expression can be satisfied by an allow list.
//!
//! In: an SPDX expression as crates declare it (also the old `MIT/Apache-2.0` form), the allowed licences.
//! Out: yes, no, or what is wrong with the expression. Pure.

/// Nesting of parentheses that is followed. Real expressions have one or two; a crate's author chooses the text, and
/// this keeps it from choosing our stack depth.
const MAX_DEPTH: usize = 16;

/// Whether a licensee who accepts only `allowed` can accept this expression.
///
/// An exception counts as part of its licence: `Apache-2.0 WITH LLVM-exception` must be allowed as such.
pub fn satisfied(expression: &str, allowed: &[String]) -> Result<bool, String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader {
        words: &words,
        next: 0,
        allowed,
    };
    let answer = reader.any(0)?;
    match reader.peek() {
        None => Ok(answer),
        Some(word) => Err(format!(
            "`{word}` does not belong there; expected AND, OR or the end"
        )),
    }
}

struct Reader<'a> {
    words: &'a [&'a str],
    next: usize,
    allowed: &'a [String],
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).copied()
    }

    fn accept(&mut self, word: &str) -> bool {
        let here = self.peek() == Some(word);
        self.next += usize::from(here);
        here
    }

    fn any(&mut self, depth: usize) -> Result<bool, String> {
        let mut answer = self.all(depth)?;
        while self.accept("OR") {
            answer |= self.all(depth)?;
        }
        Ok(answer)
    }

    fn all(&mut self, depth: usize) -> Result<bool, String> {
        let mut answer = self.one(depth)?;
        while self.accept("AND") {
            answer &= self.one(depth)?;
        }
        Ok(answer)
    }

    fn one(&mut self, depth: usize) -> Result<bool, String> {
        if self.accept("(") {
            if depth == MAX_DEPTH {
                return Err(format!("more than {MAX_DEPTH} parentheses deep"));
            }
            let answer = self.any(depth + 1)?;
            return if self.accept(")") {
                Ok(answer)
            } else {
                Err("a parenthesis is not closed".to_owned())
            };
        }
        let mut licence = self.name("a licence")?.to_owned();
        if self.accept("WITH") {
            licence = format!("{licence} WITH {}", self.name("an exception")?);
        }
        Ok(self.allowed.contains(&licence))
    }

    fn name(&mut self, wanted: &str) -> Result<&'a str, String> {
        match self.peek() {
            Some(word) if !matches!(word, "AND" | "OR" | "WITH" | "(" | ")") => {
                self.next += 1;
                Ok(word)
            }
            Some(word) => Err(format!("expected {wanted} where `{word}` stands")),
            None => Err(format!("expected {wanted} at the end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(expression: &str) -> Result<bool, String> {
        let allowed = [
            "MIT",
            "Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
            "Unicode-3.0",
        ]
        .map(str::to_owned);
        satisfied(expression, &allowed)
    }

    #[test]
    fn one_alternative_is_enough() {
        assert_eq!(ask("MIT"), Ok(true));
        assert_eq!(ask("GPL-3.0-only OR MIT"), Ok(true));
        assert_eq!(ask("GPL-3.0-only"), Ok(false));
        assert_eq!(ask("MIT/GPL-3.0-only"), Ok(true));
    }

    #[test]
    fn every_part_of_a_conjunction_must_be_allowed() {
        assert_eq!(ask("(MIT OR GPL-3.0-only) AND Unicode-3.0"), Ok(true));
        assert_eq!(ask("(MIT OR Apache-2.0) AND OpenSSL"), Ok(false));
        assert_eq!(
            ask("GPL-3.0-only OR MIT AND OpenSSL"),
            Ok(false),
            "AND binds closer than OR"
        );
    }

    #[test]
    fn an_exception_makes_another_licence() {
        assert_eq!(ask("Apache-2.0 WITH LLVM-exception"), Ok(true));
        assert_eq!(ask("MIT WITH Classpath-exception-2.0"), Ok(false));
    }

    #[test]
    fn faulty_expressions_are_refused_with_the_place() {
        assert_eq!(ask("MIT OR"), Err("expected a licence at the end".to_owned()));
        assert_eq!(ask(""), Err("expected a licence at the end".to_owned()));
        assert_eq!(ask("(MIT"), Err("a parenthesis is not closed".to_owned()));
        assert!(
            ask("MIT Apache-2.0")
                .unwrap_err()
                .starts_with("`Apache-2.0` does not belong there")
        );
        assert!(
            ask(&"(".repeat(100_000))
                .unwrap_err()
                .contains("parentheses deep")
        );
    }
}
