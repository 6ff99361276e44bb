//! The module: the embedded plan, the maps before and after a load.

use bpfplan_plan::{Endianness, Plan, plain};

use super::Embed;
use super::item::Item;
use super::maps::MapField;
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
    pub(super) items: &'a [Item],
}

/// Names are C's, and nobody uses all of a module.
const LINTS: &str = "#[allow(dead_code, non_snake_case, unreachable_pub)]";
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
    open_struct(&mut text, module, &object);
    open_maps(&mut text, module);
    loaded_struct(&mut text, module, &object);
    loaded_maps(&mut text, module);
    open_impl(&mut text, module);
    load_impl(&mut text, module);
    if !module.items.is_empty() {
        write_types::write(&mut text, module.items, TYPE_LINTS);
    }
    text.finish()
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
    text.open(&format!("pub struct Open{name} {{"));
    text.doc("Attributes of the maps.");
    text.field("pub maps", &format!("Open{name}Maps"));
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
    fields(text, &format!("Open{}Maps", module.name), module, &|_| {
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
    text.field("pub maps", &format!("{}Maps", module.name));
    text.doc("What the load has to say, and where it pinned.");
    text.field("pub report", &format!("{SUPPORT}::Report"));
    text.close("}");
}

fn loaded_maps(text: &mut Text, module: &Module<'_>) {
    text.line("");
    text.doc("The maps in the kernel.");
    text.line(LINTS);
    text.line("#[derive(Debug)]");
    fields(text, &format!("{}Maps", module.name), module, &|field| {
        let handle = field.handle.render(&|index| path(module, index));
        if field.optional {
            format!("::core::option::Option<{handle}>")
        } else {
            handle
        }
    });
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
        &format!("::core::result::Result<Open{name}, ::bpfplan_loader::LoadError>"),
    );
    let used = if module.fields.is_empty() {
        "OpenPlan"
    } else {
        "{OpenMap, OpenPlan}"
    };
    text.line(&format!("use {SUPPORT}::{used};"));
    text.line("let plan = OpenPlan::read(Self::PLAN)?;");
    text.open(&format!("::core::result::Result::Ok(Open{name} {{"));
    if module.fields.is_empty() {
        text.line(&format!("maps: Open{name}Maps {{}},"));
    } else {
        text.open(&format!("maps: Open{name}Maps {{"));
        for field in module.fields {
            initial(
                text,
                &field.name,
                "OpenMap::new",
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
            "OpenPlan::contents",
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
    text.open(&format!("impl Open{name} {{"));
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
    text.line(&format!("use {SUPPORT}::{{LoadedPlan, OpenPlan}};"));
    for field in module
        .fields
        .iter()
        .filter(|field| field.contents.is_some())
    {
        let contents = format!("&*self.{}", field.name);
        text.call(
            "OpenPlan::set_contents",
            &["&mut self.plan", &format!("{:?}", field.map), &contents],
            ";",
        );
    }
    for field in module.fields {
        let map = format!("&self.maps.{}", field.name);
        text.call("OpenPlan::change", &["&mut self.plan", &map], ";");
    }
    text.line("let loaded = OpenPlan::load(self.plan, options)?;");
    if module.fields.is_empty() {
        text.line(
            "let ((), report) = LoadedPlan::finish(loaded, |_| ::core::result::Result::Ok(()))?;",
        );
        text.line(&format!("let maps = {name}Maps {{}};"));
    } else {
        text.open("let (maps, report) = LoadedPlan::finish(loaded, |loaded| {");
        text.open(&format!("::core::result::Result::Ok({name}Maps {{"));
        for field in module.fields {
            let function = if field.optional {
                "handle_if_loaded"
            } else {
                "handle"
            };
            let head = format!("{}: LoadedPlan::{function}", field.name);
            let map = format!("{:?}", field.map);
            text.call(&head, &["loaded", &map], "?,");
        }
        text.close("})");
        text.close("})?;");
    }
    text.line(&format!(
        "::core::result::Result::Ok({name} {{ maps, report }})"
    ));
    text.close("}");
    text.close("}");
}
