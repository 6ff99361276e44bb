//! The workflow of the page, step by step.

use std::fs;
use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode as _, Yaml};

use crate::project::{Project, find, page};
use crate::support::root;

/// One step: an action with its path, or a line of shell.
#[derive(Debug)]
enum Step {
    Checkout(Option<String>),
    Run(String),
}

fn steps(workflow: &str) -> Vec<Step> {
    let documents = Yaml::load_from_str(workflow).unwrap();
    let steps = &documents[0]["jobs"]["maps"]["steps"];
    let steps = steps.as_sequence().unwrap();
    steps.iter().map(step).collect()
}

fn step(step: &Yaml<'_>) -> Step {
    let get = |key: &str| step.as_mapping_get(key);
    if let Some(run) = get("run") {
        return Step::Run(run.as_str().unwrap().to_owned());
    }
    let uses = get("uses").and_then(Yaml::as_str).unwrap();
    assert!(uses.starts_with("actions/checkout@"), "{uses}");
    let with = get("with").and_then(|with| with.as_mapping_get("path"));
    Step::Checkout(with.and_then(Yaml::as_str).map(str::to_owned))
}

/// The steps succeed, with the command that the workflow itself has installed; after a mistake,
/// the check shows it where it is and the job ends.
pub(crate) fn workflow() {
    let project = Project::new("A GitHub workflow");
    page()["Make"].lay_out(&project.directory);
    let tools = Tools::new(&project);
    let steps = steps(project.file(".github/workflows/maps.yml"));
    for step in &steps {
        let (done, said) = tools.perform(&project, step);
        assert!(done, "{step:?}: {said}");
    }
    assert!(!project.plan().is_empty());

    project.edit("src/flow.bpf.c", "[0] = &tenant_0", "[8] = &tenant_0");
    let runs = steps.iter().filter(|step| matches!(step, Step::Run(_)));
    let mut runs = runs.skip(2);
    let (made, said) = tools.perform(&project, runs.next().unwrap());
    assert!(made, "{said}");
    let (passed, said) = tools.perform(&project, runs.next().unwrap());
    assert!(!passed, "{said}");
    let annotation = "::error file=src/flow.bpf.c,line=19,";
    assert!(
        said.lines().any(|line| line.starts_with(annotation)),
        "{said}"
    );
}

/// What a runner of GitHub has and this machine has not, or must not have changed.
struct Tools {
    /// Where cargo installs.
    installed: PathBuf,
    /// The profile is that of cargo's command line, without what makes it slow to build.
    target: PathBuf,
    /// Settings of apt that let it say what it would do.
    apt: PathBuf,
}

impl Tools {
    fn new(project: &Project) -> Self {
        let installed = project.directory.join("installed");
        project.tool("bpfplan", &installed.join("bin/bpfplan"));
        project.tool("sudo", &find("env").unwrap());
        let apt = project.directory.join("apt.conf");
        fs::write(&apt, "APT::Get::Simulate \"1\";\n").unwrap();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
        Self {
            installed,
            target,
            apt,
        }
    }

    fn perform(&self, project: &Project, step: &Step) -> (bool, String) {
        match step {
            // The project lies there already.
            Step::Checkout(None) => (true, String::new()),
            Step::Checkout(Some(path)) => {
                project.link(&root(), path);
                (true, String::new())
            }
            Step::Run(line) if line.contains("apt-get") && find("apt-get").is_none() => {
                println!("skipped: {line}: there is no apt-get");
                (true, String::new())
            }
            Step::Run(line) => {
                let off = Path::new("0");
                let variables = [
                    ("APT_CONFIG", self.apt.as_path()),
                    ("CARGO_INSTALL_ROOT", &self.installed),
                    ("CARGO_TARGET_DIR", &self.target),
                    ("CARGO_NET_OFFLINE", Path::new("true")),
                    ("CARGO_PROFILE_RELEASE_LTO", Path::new("off")),
                    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", off),
                ];
                project.run(line, &variables)
            }
        }
    }
}
