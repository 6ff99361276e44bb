//! Sets what the plan's author left open, then loads: `with_overrides PLAN`.

use anyhow::{Result, anyhow};
use bpfplan_loader::{LoadOptions, RealKernel, load};
use bpfplan_plan::overrides::Overrides;
use bpfplan_plan::{Diagnostic, Plan, format};

fn main() -> Result<()> {
    let path = std::env::args()
        .nth(1)
        .ok_or_else(|| anyhow!("give a plan"))?;
    let plan = format::read(&std::fs::read(path)?)?;
    let plan = configured(&plan).map_err(|found| first(&found))?;
    let options = LoadOptions {
        hold: true,
        ..LoadOptions::default()
    };
    let loaded = load(&plan, &RealKernel::new(), &options);
    for map in loaded.map_err(|error| first(&error.diagnostics))?.maps {
        println!("{} has id {}", map.name, map.id()?);
    }
    Ok(())
}

fn configured(plan: &Plan) -> Result<Plan, Vec<Diagnostic>> {
    let overrides = Overrides::default()
        .set("flows.max_entries", 65_536)
        .set(".rodata.device", "eth0")
        .skip("debug");
    Ok(overrides.apply(plan)?.plan)
}

fn first(diagnostics: &[Diagnostic]) -> anyhow::Error {
    let first = diagnostics.first();
    first.map_or_else(|| anyhow!("it failed"), |why| anyhow!("{why}"))
}
