//! Rust source for the maps of a plan: typed handles, and the types of keys, values and global
//! data.
//!
//! [`generate`] takes a [`Plan`] and gives the text of one module, which depends on
//! `bpfplan-loader` and on nothing else. For an object `flow.bpf.o` it has
//!
//! - `Flow::open()`, which reads the embedded plan and gives `OpenFlow`: `open.maps.NAME` has the
//!   attributes of a map that may be changed before the load, `open.rodata.VARIABLE` (`data`,
//!   `bss`, `data_NAME`) the initial values of global data;
//! - `OpenFlow::load()`, which creates the maps, all or none, and gives `Flow`: `flow.maps.NAME` is
//!   a handle of `bpfplan_loader::maps` with the types of its keys and values, `flow.programs.NAME`
//!   a program, if the options said that programs are loaded;
//! - the module `types` with these types.
//!
//! How types of C become types of Rust:
//!
//! | C | Rust |
//! |---|---|
//! | integers, also of 128 bits; `float`, `double` | `u8` to `i128`; `f32`, `f64` |
//! | `char` | `u8`, because it is text |
//! | `_Bool` | `bpfplan_loader::bindings::Bool`, in which any byte is valid |
//! | pointers | `bpfplan_loader::bindings::Ptr`, an address |
//! | `struct` | a struct of `repr(C)`; padding is a field, so that no byte is undefined |
//! | bitfields | functions `name()` and `set_name(value)` |
//! | `union` | a struct of bytes with functions `name()` and `set_name(value)` |
//! | `enum` | a number with constants; values without a name stay as they are |
//! | flexible array | an array of 0 elements |
//! | whatever has no equal: `long double`, members that overlap | bytes |
//!
//! Names are those of C. Keywords become raw identifiers (`r#type`), what Rust takes in no way
//! gets a `_` (`self_`), characters that it does not know become `_`, and what is taken gets a
//! number (`flow_2`). Sizes and offsets are checked when the module is compiled.

mod collect;
mod item;
mod layout;
mod maps;
mod names;
mod programs;
mod text;
mod ty;
mod write_module;
mod write_types;

use bpfplan_plan::{Diagnostic, Plan, format, validate};

use crate::codes;

/// How the module holds its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Embed {
    /// As bytes in its own text, so that it is one file.
    Bytes,
    /// With `include_bytes!` of this path, relative to the module's file. [`Bindings::plan`] is to
    /// be written there.
    File(String),
}

/// How to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingsOptions {
    /// How the module holds its plan.
    pub embed: Embed,
    /// Name of the struct, such as `Flow`; without it, the name of the object.
    pub name: Option<String>,
}

impl Default for BindingsOptions {
    fn default() -> Self {
        Self {
            embed: Embed::Bytes,
            name: None,
        }
    }
}

/// A generated module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bindings {
    /// The text of the module.
    pub source: String,
    /// The plan in its binary form.
    pub plan: Vec<u8>,
    /// Name of the struct.
    pub name: String,
}

/// Generates the module for a plan.
///
/// ```
/// # fn bindings(object: &[u8]) -> Result<String, Vec<bpfplan_plan::Diagnostic>> {
/// use bpfplan_compiler::bindings::{BindingsOptions, generate};
/// use bpfplan_compiler::{Options, compile};
///
/// let compiled = compile(object, "flow.bpf.o", &Options { hash: true })?;
/// let bindings = generate(&compiled.plan, &BindingsOptions::default())?;
/// # Ok(bindings.source)
/// # }
/// ```
///
/// # Errors
/// [`codes::ONE_RUST_NAME`], and what is wrong with a plan that is not valid.
pub fn generate(plan: &Plan, options: &BindingsOptions) -> Result<Bindings, Vec<Diagnostic>> {
    validate::validate(plan)?;
    let bytes = format::to_binary(plan).map_err(|error| {
        vec![Diagnostic::error(
            codes::BINDINGS,
            format!("the plan cannot be written: {error}"),
        )]
    })?;
    let name = match &options.name {
        Some(name) => names::module_identifier(name),
        None => names::camel(stem(&plan.object.name)),
    };
    let mut items = collect::Items::new(plan);
    let fields = maps::fields(plan, &mut items)?;
    let items = items.finish();
    let source = write_module::write(&write_module::Module {
        plan,
        bytes: &bytes,
        name: &name,
        embed: &options.embed,
        fields: &fields,
        programs: &programs::fields(plan),
        items: &items,
    });
    Ok(Bindings {
        source,
        plan: bytes,
        name,
    })
}

/// The name of an object without its endings.
pub(crate) fn stem(object: &str) -> &str {
    let name = object.strip_suffix(".o").unwrap_or(object);
    name.strip_suffix(".bpf").unwrap_or(name)
}
