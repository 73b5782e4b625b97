//! What a process belongs to, as its cgroup tells: a Greengrass component, a container, a service. Pure.
//!
//! The outermost name that says something counts: what runs in a container can make cgroups of any name below its own.
//! Absent: container names, which only the container engine knows.

/// Digits of a container's id that people use.
const SHORT_ID: usize = 12;
/// Scopes of container engines: `<prefix>-<id>.scope` (systemd), and what to call them.
const ENGINES: [(&str, &str); 4] = [
    ("docker", "docker"),
    ("libpod", "podman"),
    ("cri-containerd", "containerd"),
    ("crio", "cri-o"),
];

/// The workload of a cgroup v2 path, `None` where the path names none (a login session, the root).
#[must_use]
pub fn workload(cgroup: &str) -> Option<String> {
    let parts: Vec<&str> = cgroup.split('/').filter(|part| !part.is_empty()).collect();
    let inside = (0..parts.len()).find_map(|at| {
        let parent = at.checked_sub(1).map(|before| parts[before]);
        component(parts[at], parent, at).or_else(|| container(parts[at], parent))
    });
    inside.or_else(|| {
        let unit = parts.iter().find_map(|part| part.strip_suffix(".service"))?;
        Some(format!("service {unit}"))
    })
}

/// Lite runs a component as the unit `ggl.<name>.service`, classic in the cgroup `/greengrass/<name>`.
fn component(part: &str, parent: Option<&str>, depth: usize) -> Option<String> {
    let unit = part
        .strip_prefix("ggl.")
        .and_then(|rest| rest.strip_suffix(".service"));
    let name = unit.or((depth == 1 && parent == Some("greengrass")).then_some(part))?;
    (!name.is_empty()).then(|| format!("component {name}"))
}

fn container(part: &str, parent: Option<&str>) -> Option<String> {
    let scope = part.strip_suffix(".scope");
    for (prefix, engine) in ENGINES {
        let id = scope
            .and_then(|scope| scope.strip_prefix(prefix))
            .and_then(|rest| rest.strip_prefix('-'));
        if let Some(id) = id.and_then(short_id) {
            return Some(format!("{engine} {id}"));
        }
    }
    if let Some(name) = scope.and_then(|scope| scope.strip_prefix("machine-")) {
        return Some(format!("machine {name}"));
    }
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some(format!("lxc {name}"));
    }
    // Engines that do not use systemd: /docker/<id>, /kubepods/<class>/pod<uid>/<id>.
    match parent {
        Some("docker") => short_id(part).map(|id| format!("docker {id}")),
        Some(pod) if pod.starts_with("pod") => short_id(part).map(|id| format!("container {id}")),
        _ => None,
    }
}

fn short_id(id: &str) -> Option<&str> {
    let plain = id.len() >= SHORT_ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| &id[..SHORT_ID])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn components_containers_and_services_are_named() {
        for (cgroup, expected) in [
            (
                "/system.slice/ggl.com.example.Camera.service",
                "component com.example.Camera",
            ),
            ("/greengrass/com.example.Camera", "component com.example.Camera"),
            (&format!("/system.slice/docker-{ID}.scope"), "docker 0123456789ab"),
            (&format!("/docker/{ID}/init.scope"), "docker 0123456789ab"),
            (
                &format!("/kubepods/burstable/pod12-34/{ID}"),
                "container 0123456789ab",
            ),
            (
                &format!("/user.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
                "podman 0123456789ab",
            ),
            ("/lxc.payload.web/system.slice/ssh.service", "lxc web"),
            ("/system.slice/ssh.service", "service ssh"),
        ] {
            assert_eq!(workload(cgroup).as_deref(), Some(expected), "{cgroup}");
        }
    }

    #[test]
    fn a_container_cannot_pose_as_a_component() {
        for inner in [
            "/greengrass/com.example.Camera",
            "/ggl.com.example.Camera.service",
        ] {
            let cgroup = format!("/system.slice/docker-{ID}.scope{inner}");
            assert_eq!(workload(&cgroup).as_deref(), Some("docker 0123456789ab"));
        }
        assert_eq!(workload("/user.slice/x/greengrass/com.example.Camera"), None);
    }

    #[test]
    fn nothing_is_guessed() {
        for cgroup in [
            "",
            "/",
            "/user.slice/session-3.scope",
            "/docker/short",
            "/docker-zz.scope",
            "/docker/é123456789abc",
        ] {
            assert_eq!(workload(cgroup), None, "{cgroup}");
        }
    }
}
