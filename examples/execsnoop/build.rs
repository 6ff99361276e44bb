use std::process::ExitCode;

fn main() -> ExitCode {
    bpfplan_compiler::build::Builder::new("src/bpf/execsnoop.bpf.c").run()
}
