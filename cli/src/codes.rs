//! Codes of the command's own diagnostics: BP09xx, files.

use bpfplan_plan::Code;

/// A file cannot be read: it is missing, a directory, a device, empty or endless.
pub(crate) const UNREADABLE: Code = Code("BP0901");
/// A file looks like a plan and does not read as one.
pub(crate) const NOT_A_PLAN: Code = Code("BP0902");
/// An object is wanted, and the file is a plan.
pub(crate) const ALREADY_A_PLAN: Code = Code("BP0903");
/// A file cannot be written.
pub(crate) const UNWRITABLE: Code = Code("BP0904");
/// The maps need more memory than `--max-memory` allows.
pub(crate) const TOO_MUCH_MEMORY: Code = Code("BP0905");
/// `--object` is given beside an object.
pub(crate) const OBJECT_TWICE: Code = Code("BP0921");
/// Programs are to be loaded with a plan, and `--object` is missing.
pub(crate) const OBJECT_MISSING: Code = Code("BP0922");
/// Programs are to be loaded with a plan that has no hash of its object.
pub(crate) const PLAN_WITHOUT_HASH: Code = Code("BP0923");
/// A slot is named by what is no key of its map.
pub(crate) const SLOT_KEY: Code = Code("BP0940");
