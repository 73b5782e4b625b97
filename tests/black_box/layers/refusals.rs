//! Kernels that lack a layer, as far as nft shows it.

use std::os::unix::fs::PermissionsExt as _;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, Ns};
use edgewarden_lab::stage::Stage;

use crate::common::agent::restart_as;
use crate::common::gateway::ip;
use crate::common::{LIMIT, isolate, options};

/// Refuses transactions that declare a table of a family named in the file `refused`.
const NFT: &str = r#"#!/bin/sh
[ "$1" = -f ] || exec /usr/sbin/nft "$@"
text=$(cat)
for family in $(cat "$(dirname "$0")/refused"); do
  case "$text" in *"table $family edgewarden {"*)
    echo "Error: Could not process rule: Operation not supported" >&2
    exit 1;;
  esac
done
printf '%s\n' "$text" | /usr/sbin/nft -f -
"#;

lab_test!(a_layer_that_the_kernel_lacks_is_told, || {
    let mut stage = Stage::start(options()).unwrap();
    let folder = stage.site.directory().join("wrapped");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("nft"), NFT).unwrap();
    std::fs::set_permissions(folder.join("nft"), std::fs::Permissions::from_mode(0o755)).unwrap();
    ip(&stage, "link add br0 type bridge\nlink set br0 up");
    let _server = stage.site.echo_server(Ns::Internet, 4444).unwrap();
    let path = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display());
    let (raw, bridged) = ("past the IP stack are not cut", "a bridge passes on are not cut");
    for (round, (refused, told)) in [
        ("", vec![]),
        ("netdev", vec![raw]),
        ("bridge", vec![bridged]),
        ("netdev bridge", vec![raw, bridged]),
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write(folder.join("refused"), refused).unwrap();
        restart_as(&mut stage, "/usr/bin/env", &[&path]);
        if round == 0 {
            stage.wait_phase(LIMIT, "released").unwrap();
            let open = stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4444).unwrap();
            assert!(open, "control: open before");
            isolate(&stage);
        }
        let status = stage
            .wait_status(LIMIT, refused, |status| {
                let limits = status["enforcement"]["uncovered"].to_string();
                let all = [raw, bridged];
                status["enforcement"]["phase"] == "enforced"
                    && all.iter().all(|gap| limits.contains(gap) == told.contains(gap))
            })
            .unwrap();
        let limits = status["enforcement"]["uncovered"].to_string();
        assert_eq!(limits.contains("not supported"), !told.is_empty(), "{limits}");
        assert!(!stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4444).unwrap());
    }
});
