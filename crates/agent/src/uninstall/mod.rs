//! Taking away everything that agents brought to this node, and giving back what they changed.
//!
//! First it is found out what there is: [`Trace`]s. Then each is removed, in order, whatever fails on the way. Nothing is
//! done twice, and nothing is needed but what is there: neither a running agent nor its records.

mod files;
mod kernel;

use anyhow::{Result, bail};
use malha_kernel::machine;

use crate::before::Before;
use crate::config::Paths;
use crate::lock::{self, Holder};

/// How to uninstall.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Also while an agent runs, which may bring things back.
    pub under_agent: bool,
    /// Also while pods are attached, which lose their network.
    pub under_pods: bool,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was done, or would be, a sentence each.
    pub done: Vec<String>,
    /// What could not be done, or not be found out.
    pub failures: Vec<String>,
}

/// Something of ours on the node.
pub(crate) struct Trace {
    verb: Verb,
    object: String,
    remove: Box<dyn FnOnce() -> Result<()>>,
}

/// What is done to it.
#[derive(Clone, Copy)]
pub(crate) enum Verb {
    Remove,
    Restore,
    Unmount,
}

impl Verb {
    /// As in "cannot …", and as the beginning of a sentence.
    const fn forms(self) -> [&'static str; 2] {
        match self {
            Self::Remove => ["remove", "Removed"],
            Self::Restore => ["restore", "Restored"],
            Self::Unmount => ["unmount", "Unmounted"],
        }
    }
}

impl Trace {
    pub(crate) fn new(
        verb: Verb,
        object: impl Into<String>,
        remove: impl FnOnce() -> Result<()> + 'static,
    ) -> Self {
        Self {
            verb,
            object: object.into(),
            remove: Box::new(remove),
        }
    }
}

/// Uninstall from the calling thread's network namespace and these paths. Absent is fine, and so is again.
///
/// # Errors
/// When it is refused: an agent runs or pods are attached, and it is not forced. Then nothing was changed.
pub fn uninstall(paths: &Paths, options: Options) -> Result<Report> {
    if !nix::unistd::geteuid().is_root() {
        bail!("this needs root: run it as root or through sudo");
    }
    let holder = lock::holder(&paths.run)?;
    if matches!(holder, Holder::Agent) && !options.dry_run && !options.under_agent {
        bail!(
            "an agent runs on this node and would bring everything back: delete the DaemonSet first \
             (kubectl delete -f deploy/malha.yaml, or helm uninstall), or use --force"
        );
    }
    let pods = kernel::pods()?;
    if pods > 0 && !options.dry_run && !options.under_pods {
        bail!(
            "{pods} of this node's pods are attached and would lose their network: drain the node first \
             (kubectl drain), or use --force"
        );
    }
    let before = Before::load(&paths.run, &machine::boot_id()?);
    let mut report = Report::default();
    for look in STEPS {
        match look(paths, &before) {
            Ok(traces) => traces
                .into_iter()
                .for_each(|trace| report.take(trace, options.dry_run)),
            Err(error) => report.failures.push(format!("{error:#}")),
        }
    }
    if !options.dry_run && report.failures.is_empty() {
        files::forget(paths, &before);
    }
    Ok(report)
}

type Step = fn(&Paths, &Before) -> Result<Vec<Trace>>;

/// The node first stops being Ready. Settings come after what depends on them, records after what they tell of.
const STEPS: [Step; 8] = [
    files::configuration,
    files::plugin,
    kernel::links,
    kernel::routes,
    kernel::masquerade,
    kernel::datapath,
    kernel::settings,
    files::state,
];

impl Report {
    fn take(&mut self, trace: Trace, dry_run: bool) {
        let ([verb, done], object) = (trace.verb.forms(), trace.object);
        if dry_run {
            self.done.push(format!("Would {verb} {object}"));
            return;
        }
        match (trace.remove)() {
            Ok(()) => self.done.push(format!("{done} {object}")),
            Err(error) => self
                .failures
                .push(format!("cannot {verb} {object}: {error:#}")),
        }
    }
}
