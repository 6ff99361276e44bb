use std::collections::BTreeSet;

use super::{Stop, Walk};
use crate::maps::fake::{Fake, bytes, number};

fn walk(fake: &Fake) -> Result<Vec<u32>, Stop> {
    let mut walk = Walk::new(fake);
    let mut keys = Vec::new();
    while let Some(key) = walk.next()? {
        keys.push(number(&key));
    }
    Ok(keys)
}

#[test]
fn an_empty_map_has_no_keys() {
    assert_eq!(walk(&Fake::new(8)), Ok(Vec::new()));
}

#[test]
fn keys_come_once() {
    assert_eq!(walk(&Fake::filled(100)), Ok((0..100).collect()));
}

/// Every fifth key goes away just when the kernel is asked what comes after it.
#[test]
fn keys_that_go_away_do_not_begin_it_again() {
    let mut fake = Fake::filled(100);
    fake.meanwhile = |elements, key| {
        if let Some(key) = key.filter(|key| number(key).is_multiple_of(5)) {
            elements.remove(key);
        }
    };
    let keys = walk(&fake).unwrap();
    let unique: BTreeSet<u32> = keys.iter().copied().collect();
    assert_eq!(unique.len(), keys.len(), "{keys:?}");
    assert_eq!(
        unique,
        (0..100).collect(),
        "those that go are given before they go"
    );
}

#[test]
fn a_walk_has_an_end() {
    let mut fake = Fake::filled(4);
    fake.meanwhile = |elements, key| {
        // The key goes away, and another one comes that was never there.
        if let Some(key) = key {
            elements.remove(key);
            let last = elements.keys().next_back().map_or(0, |key| number(key));
            elements.insert(bytes(last + 1), bytes(0));
        }
    };
    assert_eq!(walk(&fake), Err(Stop::Endless));
}
