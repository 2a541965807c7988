//! What an operator meets who sets the program up: whose the state is, what `check` says, what errors tell to do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

#[path = "support/program.rs"]
mod program;

use program::Installation;

fn edit(installation: &Installation, change: impl Fn(String) -> String) {
    let path = installation.path("config.toml");
    let text = change(std::fs::read_to_string(&path).unwrap());
    std::fs::write(path, text).unwrap();
}

/// Moves the state to a directory of this name.
fn state_in(installation: &Installation, name: &str) -> std::path::PathBuf {
    let path = installation.path(name);
    edit(installation, |text| {
        let rest = text.split_once('\n').unwrap().1;
        format!("state_dir = \"{}\"\n{rest}", path.display())
    });
    path
}

/// Every command that opens the state or would make it.
const WITH_STATE: [&[&str]; 15] = [
    &["plan"],
    &["sync"],
    &["run"],
    &["baseline", "--yes"],
    &["--authorize"],
    &["authorize", "--new-account"],
    &["reconcile"],
    &["source", "test", "crm"],
    &["status"],
    &["explain", "1"],
    &["approve"],
    &["rejected", "list"],
    &["rejected", "export", "-"],
    &["consent", "list"],
    &["erased", "lift", "1"],
];

#[tokio::test(flavor = "multi_thread")]
async fn root_makes_no_state_in_a_directory_that_is_the_services() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // both units name the state after their user; before the first start nobody owns it
    let installation = Installation::begin().await;
    let state = state_in(&installation, "nobody");
    for command in WITH_STATE {
        let refused = installation.run(command).await;
        assert_eq!(refused.code, 1, "{command:?}: {refused:?}");
        assert!(!state.exists(), "{command:?}");
    }
    let refused = installation.run(&["plan"]).await;
    assert!(refused.stderr.contains("belongs to user nobody"), "{refused:?}");
    assert!(refused.stderr.contains("hint: run the command as that user: sudo -u nobody reteno-sync"), "{refused:?}");
    // the same where root made the directory, or the service owns it
    std::fs::create_dir(&state).unwrap();
    for owner in [0, 65534] {
        std::os::unix::fs::chown(&state, Some(owner), Some(owner)).unwrap();
        for command in WITH_STATE {
            let refused = installation.run(command).await;
            assert_eq!(refused.code, 1, "{command:?}: {refused:?}");
            assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "{command:?}");
        }
    }
    let refused = installation.run(&["plan"]).await;
    assert!(refused.stderr.contains("sudo -u nobody"), "{refused:?}");
    // a user that no list knows is named by the number
    std::os::unix::fs::chown(&state, Some(54321), Some(54321)).unwrap();
    let refused = installation.run(&["plan"]).await;
    assert!(refused.stderr.contains("sudo -u '#54321' reteno-sync"), "{refused:?}");
}
