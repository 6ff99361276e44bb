//! The command line: what `--help`, the man pages and the completions are made of.

use std::path::PathBuf;

use bpfplan_plan::rules::KernelVersion;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::size::Size;

mod overrides;

pub(crate) use overrides::OverrideArgs;

const EXAMPLES: &str = "\
Examples:
  bpfplan plan flow.bpf.o                          look at what a load would do
  bpfplan check --kernel 5.15 *.bpf.o              find what that kernel would refuse
  bpfplan compile flow.bpf.o -o flow.plan          write the plan at build time
  bpfplan load flow.plan --pin-maps /sys/fs/bpf/flow
  bpfplan unload /sys/fs/bpf/flow                  remove what that load pinned

Exit status: 0 done (warnings included), 1 the object, the plan or the kernel said no,
2 wrong usage. Results go to standard output, diagnostics to standard error.";

/// Turn the map declarations of a compiled BPF object into a load plan, and load it.
///
/// A load plan says which maps a BPF object declares, in the order in which they are created,
/// with their inner templates, their static slots and the types of their keys and values.
/// People can read, review and diff it; `bpfplan load` executes exactly its steps.
#[derive(Debug, Parser)]
#[command(name = "bpfplan", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what a load would do, without doing it.
    Plan(PlanArgs),
    /// Check objects for what libbpf or the kernel would refuse.
    Check(CheckArgs),
    /// Write the load plan of an object to a file.
    Compile(CompileArgs),
    /// Write a Rust module with typed handles of the maps.
    Bindings(BindingsArgs),
    /// Create the maps of an object or a plan in the running kernel.
    Load(LoadArgs),
    /// Remove the pins that a load made, and nothing else.
    Unload(UnloadArgs),
    /// Show, fill or empty the slots of a map of maps.
    Slot(SlotArgs),
    /// Print the JSON Schema of an output.
    Schema(SchemaArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
    /// Print the manual pages.
    Man(ManArgs),
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpfplan plan flow.bpf.o
  bpfplan plan flow.bpf.o --format json | jq '.maps[].name'
  bpfplan plan flow.bpf.o --format dot | dot -Tsvg -o flow.svg
  bpfplan plan flow.bpf.o tables.bpf.o             objects that share maps, linked
  clang -O2 -g -target bpf -c flow.bpf.c -o - | bpfplan plan -

Lines with + are the steps of a load, in order. Memory is an estimate for full maps on a
machine with 4 KiB pages.")]
pub(crate) struct PlanArgs {
    /// A BPF object, a plan in either form, or - for standard input; several objects are linked.
    #[arg(required = true, value_name = "OBJECT|PLAN", value_hint = ValueHint::FilePath)]
    pub(crate) inputs: Vec<PathBuf>,
    /// How to show it.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: PlanFormat,
    /// Warn about what this kernel version would refuse, such as 5.15.
    #[arg(long, value_name = "VERSION")]
    pub(crate) kernel: Option<KernelVersion>,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpfplan check build/*.bpf.o
  bpfplan check --kernel 5.10 --kernel 6.1 --max-memory 64Mi flow.bpf.o
  bpfplan check --format github build/*.bpf.o      annotations in a GitHub workflow

Each file is checked by itself. What the kernel would refuse is an error here.")]
pub(crate) struct CheckArgs {
    /// BPF objects or plans, or - for standard input.
    #[arg(required = true, value_name = "OBJECT", value_hint = ValueHint::FilePath)]
    pub(crate) inputs: Vec<PathBuf>,
    /// Also check against this kernel version, such as 5.15; may be repeated.
    #[arg(long = "kernel", value_name = "VERSION")]
    pub(crate) kernels: Vec<KernelVersion>,
    /// Refuse a file whose maps need more memory than this, such as 64Ki, 10M or 2G.
    ///
    /// K, M and G count in 1000s, Ki, Mi and Gi in 1024s.
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_memory: Option<Size>,
    /// How to show what was found.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: CheckFormat,
}

/// Arguments of `compile`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpfplan compile flow.bpf.o -o flow.plan
  bpfplan compile flow.bpf.o -o flow.json --format json
  bpfplan compile - -o - < flow.bpf.o | ssh host bpfplan load - --pin-maps /sys/fs/bpf/flow

The file appears when it is complete, or not at all.")]
pub(crate) struct CompileArgs {
    /// A BPF object, or - for standard input; several are linked.
    #[arg(required = true, value_name = "OBJECT", value_hint = ValueHint::FilePath)]
    pub(crate) inputs: Vec<PathBuf>,
    /// The file to write, or - for standard output.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// Form of the plan; both load.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: CompileFormat,
}

/// Arguments of `bindings`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpfplan bindings flow.bpf.o -o src/flow.rs
  bpfplan bindings flow.plan -o - | less

The module has the plan in it, needs the crate bpfplan-loader and nothing else, and is called
after the object:

  let mut open = Flow::open()?;
  open.maps.flows.set_max_entries(4096);
  let flow = open.load(&LoadOptions::default())?;
  flow.maps.flows.update(&key, &value, Update::Any)?;

The file appears when it is complete, or not at all.")]
pub(crate) struct BindingsArgs {
    /// A BPF object, a plan in either form, or - for standard input.
    #[arg(value_name = "OBJECT|PLAN", value_hint = ValueHint::FilePath)]
    pub(crate) input: PathBuf,
    /// The file to write, or - for standard output.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
}

/// Arguments of `load`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpfplan load flow.bpf.o --dry-run                the calls, without making them
  bpfplan load flow.plan --pin-maps /sys/fs/bpf/flow
  bpfplan load flow.bpf.o --hold                   keep the maps until Ctrl-C
  bpfplan load flow.bpf.o --hold --set flows.max_entries=64Ki --set .rodata.port=8080
  bpfplan load flow.bpf.o --pin-root /sys/fs/bpf/lb --slots fill-empty
  bpfplan load flow.bpf.o --pin-maps /sys/fs/bpf/flow --pin-progs /sys/fs/bpf/flow

A map lives as long as something holds it, so a load needs --pin-maps or --hold unless all maps
are pinned by name (LIBBPF_PIN_BY_NAME) or used by programs that --pin-progs pins. A map that is pinned by name already is reused if it is
the declared one, else the load is refused. If any step fails, everything that this load made is
removed again.")]
pub(crate) struct LoadArgs {
    /// A BPF object, a plan in either form, or - for standard input; several objects are linked.
    #[arg(required = true, value_name = "OBJECT|PLAN", value_hint = ValueHint::FilePath)]
    pub(crate) inputs: Vec<PathBuf>,
    /// Pin the maps that are not pinned by name in this directory of a bpffs; `.` in a name
    /// becomes `_`.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pin_maps: Option<PathBuf>,
    /// Load the object's programs too, with libbpf, and pin each under its name in this directory.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pin_progs: Option<PathBuf>,
    /// Leave the programs out, and with them slots and maps that need them.
    #[arg(long, conflicts_with = "pin_progs")]
    pub(crate) no_programs: bool,
    /// The object that the plan was made from; --pin-progs needs it beside a plan. Of a plan that
    /// was made from several objects, all in the same order.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "pin_progs",
          conflicts_with = "no_programs")]
    pub(crate) object: Vec<PathBuf>,
    /// Directory of a bpffs for maps that are pinned by name, under their full names; without it,
    /// /sys/fs/bpf.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pin_root: Option<PathBuf>,
    /// What to do with the slots of maps that are reused; without it, maps of maps keep theirs, as
    /// with libbpf.
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) slots: Option<Slots>,
    /// Options of the kernel's configuration, such as CONFIG_HZ=250, that count before those of the
    /// running kernel where the object asks for some; may be compressed by gzip.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) kconfig: Option<PathBuf>,
    /// Keep the maps alive in the foreground until interrupted.
    #[arg(long)]
    pub(crate) hold: bool,
    /// Print the calls that a load would make, and make none.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
    /// Say what is being done.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// How to show the result.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: LoadFormat,
}

/// Arguments of `unload`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bpfplan unload /sys/fs/bpf/flow

A pin is removed only if it still is the map or the program that the load created, told by its id. Maps that are
pinned by name stay, unless that load created them in this very directory.")]
pub(crate) struct UnloadArgs {
    /// The directory that was given to `load --pin-maps` or `--pin-progs`.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
}

/// Arguments of `slot`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpfplan slot list /sys/fs/bpf/flow/tables
  bpfplan slot set /sys/fs/bpf/flow/tables 3 --new --max-entries 4096
  bpfplan slot set /sys/fs/bpf/flow/tables 3 --map /sys/fs/bpf/flow/spare
  bpfplan slot clear /sys/fs/bpf/flow/tables 3

PIN is the pin of an array_of_maps or a hash_of_maps. KEY is a number for keys of 1, 2, 4 or
8 bytes, and 0x with two hex digits for each byte for all others (hex: for any).")]
pub(crate) struct SlotArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: SlotCommand,
}

/// The subcommands of `slot`.
#[derive(Debug, Subcommand)]
pub(crate) enum SlotCommand {
    /// Show the slots that hold maps.
    List(SlotListArgs),
    /// Put a map into a slot, whatever is in it.
    Set(SlotSetArgs),
    /// Empty a slot.
    Clear(SlotClearArgs),
}

/// Arguments of `slot list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpfplan slot list /sys/fs/bpf/flow/tables
  bpfplan slot list /sys/fs/bpf/flow/tables --format json | jq '.slots[].id'")]
pub(crate) struct SlotListArgs {
    /// The pin of an outer map.
    #[arg(value_name = "PIN", value_hint = ValueHint::FilePath)]
    pub(crate) pin: PathBuf,
    #[command(flatten)]
    pub(crate) declared: DeclaredArgs,
    /// How to show them.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: PlainFormat,
}

/// Where a map was declared, if no record beside its pin tells.
#[derive(Debug, Args)]
pub(crate) struct DeclaredArgs {
    /// The plan or object that the outer map was loaded from; without it, the record of the load
    /// beside the pin tells what inner maps look like.
    #[arg(long, value_name = "OBJECT|PLAN", value_hint = ValueHint::FilePath)]
    pub(crate) plan: Option<PathBuf>,
    /// Name of the outer map in that plan; without it, what the kernel has of it.
    #[arg(long, value_name = "MAP", requires = "plan")]
    pub(crate) plan_map: Option<String>,
}

/// Arguments of `slot set`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpfplan slot set /sys/fs/bpf/flow/tables 3 --new
  bpfplan slot set /sys/fs/bpf/tables 3 --new --plan flow.bpf.o
  bpfplan slot set /sys/fs/bpf/flow/by_address 0x0a000001bb01 --map /sys/fs/bpf/flow/spare

A new map is made from the inner template, which the record beside the pin or --plan tells: the
kernel does not. Programs see the new map from their next lookup on.")]
pub(crate) struct SlotSetArgs {
    /// The pin of an outer map.
    #[arg(value_name = "PIN", value_hint = ValueHint::FilePath)]
    pub(crate) pin: PathBuf,
    /// The slot: a number, or the bytes of the key in hex.
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// What goes into the slot.
    #[command(flatten)]
    pub(crate) target: SlotTargetArgs,
    /// Number of entries of the new map (bytes for ring buffers), where the kernel allows others
    /// than the template's.
    #[arg(long, value_name = "N", conflicts_with = "map")]
    pub(crate) max_entries: Option<u32>,
    #[command(flatten)]
    pub(crate) declared: DeclaredArgs,
}

/// What goes into a slot.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SlotTargetArgs {
    /// Make a new inner map.
    #[arg(long)]
    pub(crate) new: bool,
    /// Take the map with this pin.
    #[arg(long, value_name = "PIN2", value_hint = ValueHint::FilePath)]
    pub(crate) map: Option<PathBuf>,
}

/// Arguments of `slot clear`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bpfplan slot clear /sys/fs/bpf/flow/tables 3

The map that was in it goes away unless something else holds it.")]
pub(crate) struct SlotClearArgs {
    /// The pin of an outer map.
    #[arg(value_name = "PIN", value_hint = ValueHint::FilePath)]
    pub(crate) pin: PathBuf,
    /// The slot: a number, or the bytes of the key in hex.
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
}

/// Arguments of `schema`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bpfplan schema plan > plan.schema.json

Every document that bpfplan prints as JSON fits one of these schemas.")]
pub(crate) struct SchemaArgs {
    /// Which output.
    #[arg(value_enum, value_name = "OUTPUT")]
    pub(crate) output: SchemaOf,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpfplan completions bash > /etc/bash_completion.d/bpfplan
  bpfplan completions zsh > ~/.zfunc/_bpfplan
  bpfplan completions fish > ~/.config/fish/completions/bpfplan.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bpfplan man | man -l -
  bpfplan man load | man -l -
  bpfplan man slot-set | man -l -
  bpfplan man --out /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The subcommand whose page to print; without it, the page of bpfplan itself.
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    pub(crate) command: Option<String>,
    /// Write all pages into this directory instead.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
}

/// Formats of `plan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum PlanFormat {
    /// For people.
    #[default]
    Text,
    /// The plan itself; see `bpfplan schema plan`.
    Json,
    /// A graph for Graphviz.
    Dot,
    /// A graph for Mermaid.
    Mermaid,
}

/// Formats of `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum CheckFormat {
    /// For people, on standard error.
    #[default]
    Text,
    /// One document on standard output; see `bpfplan schema diagnostics`.
    Json,
    /// Workflow commands that GitHub shows as annotations, on standard output.
    Github,
    /// One line each, on standard error.
    Short,
}

/// Formats of `compile`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum CompileFormat {
    /// Compact.
    #[default]
    Binary,
    /// Readable and fit for diffs.
    Json,
}

/// Policies for the slots of reused maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Slots {
    /// Leave them as they are.
    Keep,
    /// Fill declared slots that are empty.
    FillEmpty,
    /// Fill all declared slots, whatever they hold.
    Overwrite,
}

/// Formats of `load`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LoadFormat {
    /// For people.
    #[default]
    Text,
    /// One document; see `bpfplan schema load`.
    Json,
}

/// Formats of `slot list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum PlainFormat {
    /// For people.
    #[default]
    Text,
    /// One document; see `bpfplan schema slots`.
    Json,
}

/// Outputs that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// `plan --format json` and plans in JSON.
    Plan,
    /// `check --format json`, and what `plan`, `compile` and `load` print when they fail.
    Diagnostics,
    /// `load --format json`.
    Load,
    /// `slot list --format json`.
    Slots,
}
