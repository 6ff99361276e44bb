//! Names from objects and plans, made harmless: they could hold terminal control sequences.

pub(crate) use bpfplan_plan::plain;
