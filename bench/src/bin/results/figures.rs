//! What was measured: enough to make the table and the plot again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// One run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) machine: Machine,
    /// In the order in which they were measured.
    pub(crate) objects: Vec<Object>,
}

/// What there is about one object.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) loaders: BTreeMap<Loader, Measured>,
}

/// What one loader took for one object.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Object to maps in milliseconds, the median of each round.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) load_ms: Vec<f64>,
    /// Object to what the loader makes of it, without a kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_instructions: Option<u64>,
    /// System calls of a process that loads once, less those of one that does not: `bpf`, and all
    /// others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) calls: Option<(u64, u64)>,
    /// Peak memory of a process that loads once, in KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peak_kib: Option<u64>,
}

/// Who loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Loader {
    /// bpfplan, from the object.
    Bpfplan,
    /// bpfplan, from a plan compiled ahead.
    Ahead,
    Libbpf,
    LibbpfRs,
    Aya,
}

impl Loader {
    pub(crate) const ALL: [Self; 5] = [
        Self::Bpfplan,
        Self::Ahead,
        Self::Libbpf,
        Self::LibbpfRs,
        Self::Aya,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bpfplan => "bpfplan",
            Self::Ahead => "ahead",
            Self::Libbpf => "libbpf",
            Self::LibbpfRs => "libbpf-rs",
            Self::Aya => "aya",
        }
    }

    /// Whether it fills slots one at a time.
    pub(crate) fn one_by_one(self) -> bool {
        !matches!(self, Self::Bpfplan | Self::Ahead)
    }
}

impl Object {
    pub(crate) fn median_ms(&self, loader: Loader) -> Option<f64> {
        median(self.loaders.get(&loader)?.load_ms.iter().copied())
    }

    /// How many times longer one loader takes than another: the median of the rounds' ratios.
    pub(crate) fn times(&self, one: Loader, other: Loader) -> Option<f64> {
        let rounds = |loader| Some(&self.loaders.get(&loader)?.load_ms);
        let both = rounds(one)?.iter().zip(rounds(other)?);
        median(both.map(|(one, other)| one / other))
    }

    /// Number of slots, as its name tells it; `None` for an object without any.
    pub(crate) fn slots(&self) -> Option<u32> {
        slots(&self.name)
    }
}

/// Number of slots of an object of this name: `slots-N`, `hslots-N`, `outers-KxN`.
pub(crate) fn slots(name: &str) -> Option<u32> {
    match name.split_once('-')? {
        ("slots" | "hslots", slots) => slots.parse().ok(),
        ("outers", size) => {
            let (outers, slots) = size.split_once('x')?;
            outers.parse::<u32>().ok()?.checked_mul(slots.parse().ok()?)
        }
        _ => None,
    }
}

/// The median; `None` of nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_a_round() {
        let measured = |load_ms: &[f64]| Measured {
            load_ms: load_ms.to_vec(),
            ..Measured::default()
        };
        let object = Object {
            name: "slots-8".to_owned(),
            loaders: [
                (Loader::Bpfplan, measured(&[1.0, 10.0, 2.0])),
                (Loader::Libbpf, measured(&[4.0, 30.0, 12.0])),
            ]
            .into(),
        };
        assert_eq!(object.median_ms(Loader::Libbpf), Some(12.0));
        assert_eq!(object.times(Loader::Libbpf, Loader::Bpfplan), Some(4.0));
        assert_eq!(object.times(Loader::Aya, Loader::Bpfplan), None);
    }

    #[test]
    fn names_tell_the_number_of_slots() {
        assert_eq!(slots("slots-512"), Some(512));
        assert_eq!(slots("outers-64x8"), Some(512));
        assert_eq!(slots("plain-10"), None);
    }
}
