//! Kernels that lack a layer, as far as they say so.

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, Ns};
use edgewarden_lab::stage::Stage;
use edgewarden_lab::stage::filter_hook::{FilterHook, REFUSED};

use crate::common::agent::restart_as;
use crate::common::gateway::ip;
use crate::common::{LIMIT, isolate, options};

lab_test!(a_layer_that_the_kernel_lacks_is_told, || {
    let mut stage = Stage::start(options()).unwrap();
    let hook = FilterHook::prepare(&stage).unwrap();
    ip(&stage, "link add br0 type bridge\nlink set br0 up");
    let _server = stage.site.echo_server(Ns::Internet, 4444).unwrap();
    let [preload, place] = hook.environment();
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
        hook.begin(REFUSED, refused).unwrap();
        restart_as(&mut stage, "/usr/bin/env", &[&preload, &place]);
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
