use bpfplan_plan::BtfIds;

use super::{HEADER, Record, RecordedMap, RecordedProgram, RecordedTemplate};

fn record() -> Record {
    let map = |name: &str, id, template| RecordedMap {
        name: name.to_owned(),
        pin: name.to_owned(),
        id,
        template,
    };
    let template = RecordedTemplate {
        name: "luts.inner".to_owned(),
        map_type: 2,
        key_size: 4,
        value_size: 8,
        max_entries: Some(16),
        map_flags: 0x1000,
        map_extra: u64::MAX,
        numa_node: 0,
        btf: Some(BtfIds {
            key_type_id: 1,
            value_type_id: 2,
        }),
    };
    Record {
        object: "sample.bpf.o".to_owned(),
        sha256: Some("ab".repeat(32)),
        made_directory: true,
        btf: vec![0x9f, 0xeb, 1, 0],
        programs: vec![RecordedProgram {
            name: "enter".to_owned(),
            pin: "enter".to_owned(),
            id: 9,
        }],
        maps: vec![map("lut_0", 7, None), map("luts", u32::MAX, Some(template))],
    }
}

#[test]
fn reads_what_it_writes() {
    let record = record();
    let bytes = record.encode().expect("it is small");
    assert_eq!(Record::decode(&bytes), Ok(record));
}

#[test]
fn refuses_what_is_cut_off_or_goes_on() {
    let bytes = record().encode().expect("it is small");
    for length in 0..bytes.len() {
        assert!(Record::decode(&bytes[..length]).is_err(), "{length} bytes");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(Record::decode(&longer).is_err());
}

#[test]
fn damage_never_panics() {
    let bytes = record().encode().expect("it is small");
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << bit;
            let read = Record::decode(&damaged);
            assert!(place >= HEADER || read.is_err(), "byte {place}, bit {bit}");
        }
    }
}

#[test]
fn a_length_that_lies_costs_no_memory() {
    let mut bytes = record().encode().expect("it is small");
    // The length of the object's name, as a varint of 2^32 - 1.
    bytes.splice(HEADER..=HEADER, [0xff, 0xff, 0xff, 0xff, 0x0f]);
    let length = u32::try_from(bytes.len() - HEADER).expect("it is small");
    bytes[12..HEADER].copy_from_slice(&length.to_le_bytes());
    assert!(Record::decode(&bytes).is_err());
}

#[test]
fn refuses_pins_that_lead_elsewhere() {
    for pin in ["../other", "a/b", "", ".", "a\nb", super::NAME] {
        let mut record = record();
        pin.clone_into(&mut record.maps[0].pin);
        let bytes = record.encode().expect("it is small");
        let problem = Record::decode(&bytes).expect_err(pin);
        assert!(!problem.contains('\n'), "{problem:?}");
    }
    let mut record = record();
    record.maps[0].pin = "luts".to_owned();
    assert!(Record::decode(&record.encode().expect("it is small")).is_err());
}

#[test]
fn refuses_templates_whose_types_are_missing() {
    let mut record = record();
    record.btf.clear();
    assert!(Record::decode(&record.encode().expect("it is small")).is_err());
}

#[test]
fn refuses_to_be_too_large() {
    let mut record = record();
    record.object = "x".repeat(super::MAX_SIZE);
    assert!(record.encode().is_err());
}
