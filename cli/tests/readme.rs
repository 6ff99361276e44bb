//! What the README shows is what the command prints, and code that is compiled and run.

#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

mod support;

use support::{root, run, stderr, stdout};

/// The commands in the README that ask no kernel, with what follows them.
fn sessions(readme: &str) -> Vec<(&str, String)> {
    let mut sessions = Vec::new();
    let mut current: Option<(&str, String)> = None;
    for line in readme.lines() {
        if line.starts_with("```") || line.starts_with("$ ") {
            sessions.extend(current.take());
            let command = line.strip_prefix("$ bpfplan ");
            current = command.map(|command| (command, String::new()));
        } else if let Some((_, text)) = &mut current {
            text.push_str(line);
            text.push('\n');
        }
    }
    sessions
        .into_iter()
        .filter(|(command, _)| command.starts_with("plan ") || command.starts_with("check "))
        .collect()
}

/// The code in the README, block by block.
fn code(readme: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut current: Option<String> = None;
    for line in readme.lines() {
        match &mut current {
            _ if line.starts_with("```") => {
                blocks.extend(current.take());
                current = ["```rust", "```c"].contains(&line).then(String::new);
            }
            Some(text) => {
                text.push_str(line);
                text.push('\n');
            }
            None => {}
        }
    }
    blocks
}

#[test]
fn the_code_is_that_of_the_examples() {
    let read = |path| std::fs::read_to_string(path).unwrap();
    let examples = root().join("loader/examples").read_dir().unwrap();
    let mut examples: Vec<String> = examples.map(|e| read(e.unwrap().path())).collect();
    let project = root().join("examples/execsnoop");
    let main = read(project.join("src/main.rs"));
    let files = ["build.rs", "src/bpf/execsnoop.bpf.c"].map(|file| read(project.join(file)));
    examples.extend(files);
    examples.push(main.clone());
    let blocks = code(&read(root().join("README.md")));
    assert!(blocks.contains(&main), "the README has no whole program");
    for block in blocks {
        let shown = examples.iter().any(|example| example.contains(&block));
        assert!(shown, "no example has this code:\n{block}");
    }
}

#[test]
fn the_session_is_real() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let sessions = sessions(&readme);
    assert!(sessions.len() >= 2, "the README shows no session");
    for (command, text) in sessions {
        let output = run(command.split(' '));
        let printed = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(printed.trim_end(), text.trim_end(), "$ bpfplan {command}");
    }
}
