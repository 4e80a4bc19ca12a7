//! Takes away what a host leaves on this machine, whatever becomes of the process that started it.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

/// Waits until its standard input is closed: by hand, or by the kernel when that process was killed. The kernel takes a
/// moment to let go of ended processes.
const SCRIPT: &str = r#"
cat >/dev/null
attempts=0
while [ -n "$(find /sys/fs/cgroup -maxdepth 2 -name "$0")" ] && [ $attempts -lt 200 ]; do
	find /sys/fs/cgroup -depth \( -path "*/$0" -o -path "*/$0/*" \) -type d -exec rmdir {} + 2>/dev/null
	attempts=$((attempts + 1)); sleep .05
done
[ -n "$2" ] || rm -rf --one-file-system "$1"
"#;

/// A process that outlives this one by as long as it takes.
pub struct Janitor {
    process: Child,
    directory: PathBuf,
}

impl Janitor {
    /// For control groups of a name, and a directory. In a session of its own: what ends a whole test leaves it alone.
    pub fn new(group: &str, directory: &Path) -> Result<Self> {
        let keep = env::var_os("MALHA_PEER_KEEP").unwrap_or_default();
        let process = Command::new("setsid")
            .args(["sh", "-c", SCRIPT, group])
            .args([directory.as_os_str(), &keep])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run setsid (util-linux)")?;
        Ok(Self {
            process,
            directory: directory.to_owned(),
        })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        if self.directory.exists() {
            eprintln!("left: {}", self.directory.display());
        }
    }
}
