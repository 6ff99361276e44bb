//! The module: the embedded plan, the maps before and after a load.

use bpfplan_plan::{Endianness, Plan, plain};

use super::Embed;
use super::item::Item;
use super::maps::MapField;
use super::programs::ProgramField;
use super::text::{Text, byte_string};
use super::ty::SUPPORT;
use super::write_types;

/// What a module is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Module<'a> {
    pub(super) plan: &'a Plan,
    /// The plan in its binary form.
    pub(super) bytes: &'a [u8],
    /// Name of the struct.
    pub(super) name: &'a str,
    pub(super) embed: &'a Embed,
    pub(super) fields: &'a [MapField],
    pub(super) programs: &'a [ProgramField],
    pub(super) items: &'a [Item],
}

/// Names are C's, and nobody uses all of a module.
const LINTS: &str = "#[allow(dead_code, non_camel_case_types, non_snake_case, unreachable_pub)]";
/// As above; functions are called what the members are called.
const TYPE_LINTS: &str = "\
#[allow(
    clippy::len_without_is_empty,
    clippy::new_ret_no_self,
    clippy::should_implement_trait,
    clippy::wrong_self_convention,
    dead_code,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub
)]";

/// Writes the module.
pub(super) fn write(module: &Module<'_>) -> String {
    let mut text = Text::default();
    let object = shown(&module.plan.object.name);
    let version = env!("CARGO_PKG_VERSION");
    text.line(&format!(
        "// Made by bpfplan {version} from {object}; changes will be lost."
    ));
    text.line("");
    let endianness = match module.plan.object.endianness {
        Endianness::Little => "little",
        Endianness::Big => "big",
    };
    text.line(&format!("#[cfg(not(target_endian = \"{endianness}\"))]"));
    text.open("::core::compile_error!(");
    text.line(&format!(
        "\"this BPF object is {endianness}-endian: compile it for the byte order of the target\""
    ));
    text.close(");");
    version_check(&mut text, module.plan.version);
    open_struct(&mut text, module, &object);
    open_maps(&mut text, module);
    loaded_struct(&mut text, module, &object);
    loaded_maps(&mut text, module);
    all_maps(&mut text, module);
    loaded_programs(&mut text, module);
    open_impl(&mut text, module);
    load_impl(&mut text, module);
    if !module.items.is_empty() {
        write_types::write(&mut text, module.items, TYPE_LINTS);
    }
    text.finish()
}

/// A loader that does not read the plan is an error of the build.
fn version_check(text: &mut Text, version: u32) {
    text.line("");
    text.open("const _: () = ::core::assert!(");
    text.line(&format!("{SUPPORT}::PLAN_VERSION == {version},"));
    text.line("\"make this module again, with the version of bpfplan that bpfplan-loader has\"");
    text.close(");");
}

/// Names for what functions use, beside which the module's own names stay.
fn import(text: &mut Text) {
    text.line(&format!("use {SUPPORT};"));
}

impl Module<'_> {
    /// A name with that of the struct in it.
    fn named(&self, before: &str, after: &str) -> String {
        let plain = self.name.strip_prefix("r#").unwrap_or(self.name);
        format!("{before}{plain}{after}")
    }

    /// The struct of what is not loaded yet.
    fn open(&self) -> String {
        self.named("Open", "")
    }

    /// The struct of the attributes of its maps.
    fn open_maps(&self) -> String {
        self.named("Open", "Maps")
    }

    /// The struct of the handles.
    fn maps(&self) -> String {
        self.named("", "Maps")
    }

    /// The struct of the programs.
    fn programs(&self) -> String {
        self.named("", "Programs")
    }
}

fn path(module: &Module<'_>, index: usize) -> String {
    let item = module.items.get(index);
    format!(
        "types::{}",
        item.map(|item| item.name.as_str()).unwrap_or_default()
    )
}

fn shown(name: &str) -> String {
    plain(name).chars().take(100).collect()
}

fn code(name: &str) -> String {
    name.replace('`', "'")
}

fn open_struct(text: &mut Text, module: &Module<'_>, object: &str) {
    let name = module.name;
    text.line("");
    text.doc(&format!(
        "The maps of `{}` before they are created: `{name}::open` makes it.",
        code(object)
    ));
    text.line(LINTS);
    text.line("#[derive(Debug)]");
    text.open(&format!("pub struct {} {{", module.open()));
    text.doc("Attributes of the maps.");
    text.field("pub maps", &module.open_maps());
    for field in module.fields {
        let Some(contents) = &field.contents else {
            continue;
        };
        let ty = contents.ty.render(&|index| path(module, index));
        text.doc(&format!("Initial contents of {}", field.doc));
        text.field(
            &format!("pub {}", field.name),
            &format!("::std::boxed::Box<{ty}>"),
        );
    }
    text.field("plan", &format!("{SUPPORT}::OpenPlan"));
    text.close("}");
}

fn open_maps(text: &mut Text, module: &Module<'_>) {
    text.line("");
    text.doc("Attributes of the maps, which may be changed until they are loaded.");
    text.line(LINTS);
    text.line("#[derive(Debug)]");
    fields(text, &module.open_maps(), module, &|_| {
        format!("{SUPPORT}::OpenMap")
    });
}

fn loaded_struct(text: &mut Text, module: &Module<'_>, object: &str) {
    text.line("");
    text.doc(&format!(
        "The maps of `{}` in the kernel. They live as long as this or their pins.",
        code(object)
    ));
    text.line(LINTS);
    text.line("#[derive(Debug)]");
    text.open(&format!("pub struct {} {{", module.name));
    text.doc("The maps.");
    text.field("pub maps", &module.maps());
    if !module.programs.is_empty() {
        text.doc("The programs.");
        text.field("pub programs", &module.programs());
    }
    text.doc("What the load has to say, and where it pinned.");
    text.field("pub report", &format!("{SUPPORT}::Report"));
    text.close("}");
}

fn loaded_maps(text: &mut Text, module: &Module<'_>) {
    text.line("");
    text.doc("The maps in the kernel.");
    text.line(LINTS);
    text.line("#[derive(Debug)]");
    fields(text, &module.maps(), module, &|field| {
        let handle = field.handle.render(&|index| path(module, index));
        if field.optional {
            format!("::core::option::Option<{handle}>")
        } else {
            handle
        }
    });
}

/// The maps without their types, which other loaders take by name.
fn all_maps(text: &mut Text, module: &Module<'_>) {
    if module.fields.is_empty() {
        return;
    }
    text.line("");
    text.line(LINTS);
    text.open(&format!("impl {} {{", module.maps()));
    text.doc("All maps, each with its name, in the order of the plan.");
    text.line("#[must_use]");
    text.open("pub fn all(&self) -> ::std::vec::Vec<&::bpfplan_loader::maps::RawMap> {");
    text.line("use ::bpfplan_loader::maps::MapHandle;");
    let count = module.fields.len().to_string();
    text.call(
        "let mut all = ::std::vec::Vec::with_capacity",
        &[&count],
        ";",
    );
    for field in module.fields {
        let map = if field.optional {
            format!("self.{}.as_ref().map(MapHandle::map)", field.name)
        } else {
            format!("[MapHandle::map(&self.{})]", field.name)
        };
        text.call("all.extend", &[&map], ";");
    }
    text.line("all");
    text.close("}");
    text.close("}");
}

fn loaded_programs(text: &mut Text, module: &Module<'_>) {
    if module.programs.is_empty() {
        return;
    }
    text.line("");
    text.doc("The programs in the kernel: none unless the options said that they are loaded.");
    text.line(LINTS);
    text.line("#[derive(Debug)]");
    text.open(&format!("pub struct {} {{", module.programs()));
    for program in module.programs {
        text.doc(&program.doc);
        let ty = format!("::core::option::Option<{SUPPORT}::Program>");
        text.field(&format!("pub {}", program.name), &ty);
    }
    text.close("}");
}

/// A struct with a field for each map.
fn fields(text: &mut Text, name: &str, module: &Module<'_>, ty: &dyn Fn(&MapField) -> String) {
    if module.fields.is_empty() {
        text.line(&format!("pub struct {name} {{}}"));
        return;
    }
    text.open(&format!("pub struct {name} {{"));
    for field in module.fields {
        text.doc(&field.doc);
        text.field(&format!("pub {}", field.name), &ty(field));
    }
    text.close("}");
}

fn open_impl(text: &mut Text, module: &Module<'_>) {
    let name = module.name;
    text.line("");
    text.line(LINTS);
    text.open(&format!("impl {name} {{"));
    text.doc("The load plan in its binary form.");
    match module.embed {
        Embed::Bytes => {
            let bytes = byte_string(module.bytes, 8);
            text.line("pub const PLAN: &'static [u8] =");
            text.raw(&format!("        {bytes};\n"));
        }
        Embed::File(file) => text.call(
            "pub const PLAN: &'static [u8] = ::core::include_bytes!",
            &[&format!("{file:?}")],
            ";",
        ),
    }
    text.line("");
    text.doc("Reads the plan; nothing is created yet.");
    text.line("///");
    text.doc("# Errors");
    text.doc("If the loader is of another version than what made the plan.");
    text.function(
        "pub fn open()",
        &format!(
            "::core::result::Result<{}, ::bpfplan_loader::LoadError>",
            module.open()
        ),
    );
    import(text);
    text.line("let plan = bindings::OpenPlan::read(Self::PLAN)?;");
    text.open(&format!("::core::result::Result::Ok({} {{", module.open()));
    if module.fields.is_empty() {
        text.line(&format!("maps: {} {{}},", module.open_maps()));
    } else {
        text.open(&format!("maps: {} {{", module.open_maps()));
        for field in module.fields {
            initial(
                text,
                &field.name,
                "bindings::OpenMap::new",
                &[&format!("{:?}", field.map)],
            );
        }
        text.close("},");
    }
    for field in module
        .fields
        .iter()
        .filter(|field| field.contents.is_some())
    {
        initial(
            text,
            &field.name,
            "bindings::OpenPlan::contents",
            &["&plan", &format!("{:?}", field.map)],
        );
    }
    text.line("plan,");
    text.close("})");
    text.close("}");
    text.close("}");
}

/// `name: head(arguments),`.
fn initial(text: &mut Text, name: &str, head: &str, arguments: &[&str]) {
    text.call(&format!("{name}: {head}"), arguments, ",");
}

fn load_impl(text: &mut Text, module: &Module<'_>) {
    let name = module.name;
    text.line("");
    text.line(LINTS);
    text.open(&format!("impl {} {{", module.open()));
    text.doc("Creates the maps, fills slots and global data, and pins if the options say so.");
    text.line("///");
    text.doc("# Errors");
    text.doc("What is wrong with a change, or what the kernel refused; nothing is left then.");
    let mutable = if module.fields.is_empty() {
        "self"
    } else {
        "mut self"
    };
    text.open("pub fn load(");
    text.line(&format!("{mutable},"));
    text.line("options: &::bpfplan_loader::LoadOptions,");
    text.shallower();
    text.typed(
        ") -> ",
        &format!("::core::result::Result<{name}, ::bpfplan_loader::LoadError>"),
        " {",
    );
    text.deeper();
    import(text);
    for field in module
        .fields
        .iter()
        .filter(|field| field.contents.is_some())
    {
        let contents = format!("&*self.{}", field.name);
        text.call(
            "bindings::OpenPlan::set_contents",
            &["&mut self.plan", &format!("{:?}", field.map), &contents],
            ";",
        );
    }
    for field in module.fields {
        let map = format!("&self.maps.{}", field.name);
        text.call("bindings::OpenPlan::change", &["&mut self.plan", &map], ";");
    }
    if module.programs.is_empty() {
        text.line("let loaded = bindings::OpenPlan::load(self.plan, options)?;");
    } else {
        text.line("let mut loaded = bindings::OpenPlan::load(self.plan, options)?;");
        text.open(&format!("let programs = {} {{", module.programs()));
        for program in module.programs {
            let head = format!("{}: bindings::LoadedPlan::program", program.name);
            let name = format!("{:?}", program.program);
            text.call(&head, &["&mut loaded", &name], ",");
        }
        text.close("};");
    }
    if module.fields.is_empty() {
        text.open("let ((), report) =");
        text.line("bindings::LoadedPlan::finish(loaded, |_| ::core::result::Result::Ok(()))?;");
        text.shallower();
        text.line(&format!("let maps = {} {{}};", module.maps()));
    } else {
        text.open("let (maps, report) = bindings::LoadedPlan::finish(loaded, |loaded| {");
        text.open(&format!("::core::result::Result::Ok({} {{", module.maps()));
        for field in module.fields {
            let function = if field.optional {
                "handle_if_loaded"
            } else {
                "handle"
            };
            let head = format!("{}: bindings::LoadedPlan::{function}", field.name);
            let map = format!("{:?}", field.map);
            text.call(&head, &["loaded", &map], "?,");
        }
        text.close("})");
        text.close("})?;");
    }
    if module.programs.is_empty() {
        text.line(&format!(
            "::core::result::Result::Ok({name} {{ maps, report }})"
        ));
    } else {
        text.open(&format!("::core::result::Result::Ok({name} {{"));
        for field in ["maps", "programs", "report"] {
            text.line(&format!("{field},"));
        }
        text.close("})");
    }
    text.close("}");
    text.close("}");
}
