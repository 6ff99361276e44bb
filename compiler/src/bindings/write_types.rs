//! The module `types`: structs and enums.

use super::item::{Accessor, Item, ItemField, Kind, Place, Variant};
use super::text::Text;
use super::ty::{SUPPORT, Ty};

/// Writes the items.
pub(super) fn write(text: &mut Text, items: &[Item], lints: &str) {
    let path = |index: usize| {
        let item = items.get(index);
        item.map(|item| item.name.clone()).unwrap_or_default()
    };
    text.line("");
    text.doc("Types of keys, values and global data.");
    text.line(lints);
    text.open("pub mod types {");
    text.line("use ::bpfplan_loader::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};");
    for item in items {
        text.line("");
        match &item.content.kind {
            Kind::Composite {
                packed,
                fields,
                accessors,
            } => composite(text, item, *packed, fields, accessors, &path),
            Kind::Enum { number, variants } => enumeration(text, item, number, variants),
        }
    }
    text.close("}");
}

fn composite(
    text: &mut Text,
    item: &Item,
    packed: Option<u32>,
    fields: &[ItemField],
    accessors: &[Accessor],
    path: &dyn Fn(usize) -> String,
) {
    let Item { name, content } = item;
    text.doc(&content.doc);
    derive(text, content.eq, true);
    match packed {
        Some(1) => text.line("#[repr(C, packed)]"),
        Some(align) => text.line(&format!("#[repr(C, packed({align}))]")),
        None => text.line("#[repr(C)]"),
    }
    if fields.is_empty() {
        text.line(&format!("pub struct {name} {{}}"));
    } else {
        text.structure(&format!("pub struct {name}"));
        for field in fields {
            match &field.doc {
                Some(doc) => text.doc(doc),
                None => text.line("#[doc(hidden)]"),
            }
            text.field(&format!("pub {}", field.name), &field.ty.render(path));
        }
        text.close("}");
    }
    default(text, name);
    if !accessors.is_empty() {
        text.line("");
        text.open(&format!("impl {name} {{"));
        for (index, accessor) in accessors.iter().enumerate() {
            if index > 0 {
                text.line("");
            }
            self::accessor(text, accessor, path);
        }
        text.close("}");
    }
    assertions(text, item, fields);
}

fn derive(text: &mut Text, eq: bool, debug: bool) {
    let mut traits = vec!["Clone", "Copy"];
    traits.extend(debug.then_some("Debug"));
    traits.push("PartialEq");
    if eq {
        traits.extend(["Eq", "Hash"]);
    }
    traits.extend(["FromBytes", "IntoBytes", "Immutable", "KnownLayout"]);
    text.derive(&traits.join(", "));
    text.line("#[zerocopy(crate = \"::bpfplan_loader::zerocopy\")]");
}

/// All zeros, also for arrays that are too long for `derive(Default)`.
fn default(text: &mut Text, name: &str) {
    text.line("");
    text.open(&format!("impl ::core::default::Default for {name} {{"));
    text.open("fn default() -> Self {");
    text.line("::bpfplan_loader::zerocopy::FromZeros::new_zeroed()");
    text.close("}");
    text.close("}");
}

/// The layout is that of C, or the module does not compile.
fn assertions(text: &mut Text, item: &Item, fields: &[ItemField]) {
    let name = &item.name;
    text.line("");
    text.open("const _: () = {");
    text.assert(&format!(
        "::core::mem::size_of::<{name}>() == {}",
        item.content.size
    ));
    for field in fields.iter().filter(|field| field.doc.is_some()) {
        text.assert(&format!(
            "::core::mem::offset_of!({name}, {}) == {}",
            field.name, field.offset
        ));
    }
    text.close("};");
}

fn accessor(text: &mut Text, accessor: &Accessor, path: &dyn Fn(usize) -> String) {
    let ty = accessor.ty.render(path);
    let Accessor {
        getter,
        setter,
        field,
        place,
        doc,
        ..
    } = accessor;
    text.doc(doc);
    text.line("#[must_use]");
    text.list(
        &format!("pub fn {getter}"),
        &["&self"],
        &format!(" -> {ty} {{"),
    );
    text.deeper();
    let own = format!("&self.{field}");
    match place {
        Place::Bytes { offset } => {
            text.call(
                &format!("{SUPPORT}::read"),
                &[&own, &offset.to_string()],
                "",
            );
        }
        Place::Bits {
            offset,
            width,
            number,
        } => {
            let (offset, width) = (offset.to_string(), width.to_string());
            let arguments = [own.as_str(), &offset, &width];
            match (number, &accessor.ty) {
                (Some(_), Ty::Item(_)) => {
                    text.call(&format!("let bits = {SUPPORT}::read_bits"), &arguments, ";");
                    text.line(&format!("{ty}(bits)"));
                }
                _ => text.call(&format!("{SUPPORT}::read_bits"), &arguments, ""),
            }
        }
    }
    text.close("}");
    text.line("");
    text.doc(&format!("Sets {doc}."));
    let value = format!("value: {ty}");
    text.list(&format!("pub fn {setter}"), &["&mut self", &value], " {");
    text.deeper();
    let own = format!("&mut self.{field}");
    match place {
        Place::Bytes { offset } => text.call(
            &format!("{SUPPORT}::write"),
            &[&own, &offset.to_string(), "&value"],
            ";",
        ),
        Place::Bits {
            offset,
            width,
            number,
        } => {
            let value = if number.is_some() { "value.0" } else { "value" };
            text.call(
                &format!("{SUPPORT}::write_bits"),
                &[&own, &offset.to_string(), &width.to_string(), value],
                ";",
            );
        }
    }
    text.close("}");
}

fn enumeration(text: &mut Text, item: &Item, number: &str, variants: &[Variant]) {
    let name = &item.name;
    text.doc(&item.content.doc);
    text.line("///");
    text.doc("A value that has no name here is kept as it is.");
    derive(text, true, variants.is_empty());
    text.line("#[repr(transparent)]");
    let head = format!("pub struct {name}");
    text.list(&head, &[&format!("pub {number}")], ";");
    default(text, name);
    if !variants.is_empty() {
        self::variants(text, name, variants);
    }
    assertions(text, item, &[]);
}

/// The names of values, and `Debug` that knows them.
fn variants(text: &mut Text, name: &str, variants: &[Variant]) {
    text.line("");
    text.open(&format!("impl {name} {{"));
    for variant in variants {
        text.doc(&format!("`{}`", variant.value));
        text.line(&format!(
            "pub const {}: Self = Self({});",
            variant.name, variant.value
        ));
    }
    text.close("}");
    text.line("");
    text.open(&format!("impl ::core::fmt::Debug for {name} {{"));
    text.open("fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {");
    text.open("let name = match self.0 {");
    for variant in variants.iter().filter(|variant| variant.first) {
        let shown = variant.name.strip_prefix("r#").unwrap_or(&variant.name);
        text.arm(&variant.value, &format!("{shown:?}"));
    }
    let shown = name.strip_prefix("r#").unwrap_or(name);
    text.line(&format!(
        "other => return f.debug_tuple({shown:?}).field(&other).finish(),"
    ));
    text.close("};");
    text.line("f.write_str(name)");
    text.close("}");
    text.close("}");
}
