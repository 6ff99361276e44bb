//! Plans and diagnostics as text; one module per output.

pub(crate) mod diagnostics;
pub(crate) mod dot;
pub(crate) mod escape;
mod graph;
pub(crate) mod mermaid;
pub(crate) mod style;
pub(crate) mod text;
