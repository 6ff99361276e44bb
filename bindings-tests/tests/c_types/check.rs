//! Initial values in C, and Rust that looks for them and makes them.

use std::fmt::Write as _;

use crate::declare::{Body, Member, Ty, Value, rust_number};

/// An initial value in C.
pub(crate) fn c_value(ty: &Ty, value: &Value) -> String {
    match (ty, value) {
        (Ty::Number(index), Value::Number(number)) => {
            let bits = number.cast_unsigned();
            let (high, low) = (bits >> 64, bits & u128::from(u64::MAX));
            if rust_number(*index).ends_with("128") {
                format!("(__int128)(((unsigned __int128){high}UL << 64) | {low}UL)")
            } else {
                format!("(long){low}UL")
            }
        }
        (Ty::Bool, Value::Number(number)) => number.to_string(),
        (Ty::Pointer | Ty::Function, Value::Number(number)) => format!("(void *){number}UL"),
        (Ty::Enum(tag, _), Value::Number(number)) if *number > i128::from(i64::MAX) => {
            format!("(enum {tag}){number}UL")
        }
        (Ty::Enum(tag, _), Value::Number(number)) => format!("(enum {tag}){number}"),
        (Ty::Float(_), Value::Quarters(quarters)) => format!("{quarters} / 4.0"),
        (Ty::Array(element, _), Value::Elements(elements)) => {
            let elements = elements.iter().map(|value| c_value(element, value));
            format!("{{{}}}", elements.collect::<Vec<_>>().join(", "))
        }
        (Ty::Body(body), Value::Members(_)) => {
            let mut list = Vec::new();
            designated(body, value, &mut list);
            format!("{{{}}}", list.join(", "))
        }
        _ => unreachable!("{ty:?} {value:?}"),
    }
}

/// `.name = value`; those of anonymous members as if they were the struct's own.
fn designated(body: &Body, value: &Value, list: &mut Vec<String>) {
    for (_, member, value) in members(body, value) {
        match (&member.name, &member.ty) {
            (Some((name, _)), ty) => list.push(format!(".{name} = {}", c_value(ty, value))),
            (None, Ty::Body(inner)) => designated(inner, value, list),
            (None, _) => unreachable!("only structs and unions are anonymous"),
        }
    }
}

fn members<'a>(
    body: &'a Body,
    value: &'a Value,
) -> impl Iterator<Item = (usize, &'a Member, &'a Value)> {
    let Value::Members(values) = value else {
        unreachable!("{value:?}")
    };
    values
        .iter()
        .map(|(index, value)| (*index, &body.members[*index], value))
}

/// Rust that compares `place` with a value.
pub(crate) fn look(place: &str, ty: &Ty, value: &Value, text: &mut String) {
    match (ty, value) {
        (Ty::Array(element, _), Value::Elements(elements)) => {
            for (index, value) in elements.iter().enumerate() {
                look(&format!("{place}[{index}]"), element, value, text);
            }
        }
        (Ty::Body(body), Value::Members(_)) => {
            for (index, member, value) in members(body, value) {
                let name = rust_name(member, index);
                let call = if is_function(body, member) { "()" } else { "" };
                look(
                    &format!("({{ {place} }}).{name}{call}"),
                    &member.ty,
                    value,
                    text,
                );
            }
        }
        _ => {
            let value = literal(ty, value);
            let line = match ty {
                // clang 14 has no signs of enums.
                Ty::Enum(..) => format!("is(({{ {place} }}).0, {value});"),
                Ty::Bool => format!("assert_eq!(({{ {place} }}).get(), {value});"),
                Ty::Pointer | Ty::Function => format!("assert_eq!(({{ {place} }}).0, {value});"),
                _ => format!("assert_eq!({{ {place} }}, {value});"),
            };
            writeln!(text, "    {line}").unwrap();
        }
    }
}

/// Rust that gives `place` a value.
pub(crate) fn make(place: &str, ty: &Ty, value: &Value, depth: u32, text: &mut String) {
    match (ty, value) {
        (Ty::Array(element, _), Value::Elements(elements)) => {
            for (index, value) in elements.iter().enumerate() {
                make(&format!("{place}[{index}]"), element, value, depth, text);
            }
        }
        (Ty::Body(body), Value::Members(_)) => {
            for (index, member, value) in members(body, value) {
                let name = rust_name(member, index);
                let part = format!("part_{depth}");
                let function = is_function(body, member);
                let call = if function { "()" } else { "" };
                writeln!(text, "    let mut {part} = {place}.{name}{call};").unwrap();
                make(&part, &member.ty, value, depth + 1, text);
                if function {
                    let plain = name.strip_prefix("r#").unwrap_or(&name);
                    let plain = match &member.name {
                        Some((c, _)) => c,
                        None => plain,
                    };
                    writeln!(text, "    {place}.set_{plain}({part});").unwrap();
                } else {
                    writeln!(text, "    {place}.{name} = {part};").unwrap();
                }
            }
        }
        (Ty::Bool, _) => writeln!(text, "    {place} = {}.into();", literal(ty, value)).unwrap(),
        (Ty::Enum(..), _) => {
            writeln!(text, "    {place}.0 = Wrap::wrap({});", literal(ty, value)).unwrap();
        }
        (Ty::Pointer | Ty::Function, _) => {
            writeln!(text, "    {place}.0 = {};", literal(ty, value)).unwrap();
        }
        _ => writeln!(text, "    {place} = {};", literal(ty, value)).unwrap(),
    }
}

fn rust_name(member: &Member, index: usize) -> String {
    match &member.name {
        Some((_, rust)) => rust.clone(),
        None => format!("anon_{index}"),
    }
}

/// Members of unions and bitfields are read by functions.
fn is_function(body: &Body, member: &Member) -> bool {
    body.union || member.bits.is_some()
}

fn literal(ty: &Ty, value: &Value) -> String {
    match (ty, value) {
        (Ty::Number(index), Value::Number(number)) => match rust_number(*index) {
            "u128" => format!("{}u128", number.cast_unsigned()),
            rust => format!("{number}{rust}"),
        },
        (Ty::Bool, Value::Number(number)) => (*number != 0).to_string(),
        (_, Value::Number(number)) => number.to_string(),
        (Ty::Float(c), Value::Quarters(quarters)) => {
            let rust = if *c == "float" { "f32" } else { "f64" };
            format!("{quarters}{rust} / 4.0")
        }
        _ => unreachable!("{ty:?} {value:?}"),
    }
}
