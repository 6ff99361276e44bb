//! Values of variables, and what their types cannot hold.

use super::*;

#[test]
fn values_of_every_type_are_written() {
    let plan = little();
    for (text, variable, bytes) in [
        ("count=-2", "count", &[0xfe, 0xff, 0xff, 0xff][..]),
        ("count=0x7fffffff", "count", &[0xff, 0xff, 0xff, 0x7f]),
        ("count=2Ki", "count", &[0, 8, 0, 0]),
        ("count='A'", "count", &[65, 0, 0, 0]),
        ("count=-0", "count", &[0, 0, 0, 0]),
        ("port=8080", "port", &[0x90, 0x1f]),
        ("letter='\\xff'", "letter", &[0xff]),
        ("letter=-128", "letter", &[0x80]),
        ("on=true", "on", &[1]),
        ("on=0", "on", &[0]),
        (
            "wide=340282366920938463463374607431768211455",
            "wide",
            &[0xff; 16],
        ),
        ("mode=OFF", "mode", &[0xff; 4]),
        ("mode=5", "mode", &[5, 0, 0, 0]),
        ("mode=-3", "mode", &[0xfd, 0xff, 0xff, 0xff]),
        ("ratio=0.75", "ratio", &[0, 0, 0, 0, 0, 0, 0xe8, 0x3f]),
        ("device=eth0", "device", b"eth0\0\0\0\0"),
        ("device=", "device", &[0; 8]),
        ("device=\"a\\nb\"", "device", b"a\nb\0\0\0\0\0"),
        ("device=[1, 'x']", "device", b"\x01x\0\0\0\0\0\0"),
        ("ports=[80, 0x1bb]", "ports", &[80, 0, 0xbb, 1, 0, 0, 0, 0]),
        ("ports[3]=1", "ports", &[0, 0, 0, 0, 0, 0, 1, 0]),
        (
            "names=[\"a\", b]",
            "names",
            b"a\0\0\0\0\0\0\0b\0\0\0\0\0\0\0",
        ),
        ("names[1]=b", "names", b"\0\0\0\0\0\0\0\0b\0\0\0\0\0\0\0"),
        ("limit=3", "limit", &[3, 0, 0, 0]),
        ("address=[2, 0, 0, 0, 0, 1]", "address", &[2, 0, 0, 0, 0, 1]),
        ("address=\"ab\"", "address", b"ab\0\0\0\0"),
        ("flow.bytes=9", "flow", &[0, 0, 0, 0, 9, 0, 0, 0]),
        ("check.calls=6", "check.calls", &[6, 0, 0, 0]),
    ] {
        let found = bytes_after(&plan, &format!(".rodata.{text}"), variable);
        assert_eq!(found, bytes, "{text}");
        for prefix in ["flow.rodata.", "flow.rodata:", ".rodata:"] {
            let again = bytes_after(&plan, &format!("{prefix}{text}"), variable);
            assert_eq!(again, bytes, "{prefix}{text}");
        }
    }
    let flows = bytes_after(&plan, ".rodata.flows[1].packets=5", "flows");
    assert_eq!(flows, [0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn values_have_the_byte_order_of_the_object() {
    let plan = configured(Endianness::Big);
    for (text, variable, bytes) in [
        (".rodata.count=-2", "count", &[0xff, 0xff, 0xff, 0xfe][..]),
        (".rodata.port=8080", "port", &[0x1f, 0x90]),
        (
            ".rodata.ratio=0.75",
            "ratio",
            &[0x3f, 0xe8, 0, 0, 0, 0, 0, 0],
        ),
        (
            ".rodata.ports=[80, 443]",
            "ports",
            &[0, 80, 1, 0xbb, 0, 0, 0, 0],
        ),
        (".rodata.mode=LEARN", "mode", &[0, 0, 0, 7]),
        (".rodata.device=eth0", "device", b"eth0\0\0\0\0"),
    ] {
        assert_eq!(bytes_after(&plan, text, variable), bytes, "{text}");
    }
}

#[test]
fn what_a_target_cannot_hold_is_refused() {
    use codes::{OVERRIDE_NAME, OVERRIDE_REFUSED, OVERRIDE_VALUE};
    let plan = little();
    for (text, code) in [
        (".rodata.count=2147483648", OVERRIDE_VALUE),
        (".rodata.count=-2147483649", OVERRIDE_VALUE),
        (
            ".rodata.count=99999999999999999999999999999999999999999",
            OVERRIDE_VALUE,
        ),
        (".rodata.count=", OVERRIDE_VALUE),
        (".rodata.count=ten", OVERRIDE_VALUE),
        (".rodata.count=010", OVERRIDE_VALUE),
        (".rodata.count=\"1\"", OVERRIDE_VALUE),
        (".rodata.count=[1]", OVERRIDE_VALUE),
        (".rodata.port=-1", OVERRIDE_VALUE),
        (".rodata.port=65536", OVERRIDE_VALUE),
        (".rodata.letter=128", OVERRIDE_VALUE),
        (".rodata.on=2", OVERRIDE_VALUE),
        (".rodata.on=yes", OVERRIDE_VALUE),
        (".rodata.mode=LEARNT", OVERRIDE_VALUE),
        (".rodata.mode=2147483648", OVERRIDE_VALUE),
        (".rodata.ratio=fast", OVERRIDE_VALUE),
        (".rodata.ratio=1e999", OVERRIDE_VALUE),
        (".rodata.ratio=inf", OVERRIDE_VALUE),
        (".rodata.device=12345678", OVERRIDE_VALUE),
        (".rodata.device=[1,2,3,4,5,6,7,8,9]", OVERRIDE_VALUE),
        (".rodata.ports=80", OVERRIDE_VALUE),
        (".rodata.ports=\"ab\"", OVERRIDE_VALUE),
        (".rodata.ports=[80, x]", OVERRIDE_VALUE),
        (".rodata.ports=[[80]]", OVERRIDE_VALUE),
        (".rodata.address=ab", OVERRIDE_VALUE),
        (".rodata.pointer=0", OVERRIDE_REFUSED),
        (".rodata.flow=1", OVERRIDE_REFUSED),
        (".rodata.ports[4]=1", OVERRIDE_NAME),
        (".rodata.ports[x]=1", OVERRIDE_NAME),
        (".rodata.ports[1=1", OVERRIDE_NAME),
        (".rodata.ports[-1]=1", OVERRIDE_NAME),
        (".rodata.count[0]=1", OVERRIDE_NAME),
        (".rodata.count.x=1", OVERRIDE_NAME),
        (".rodata.flow.packet=1", OVERRIDE_NAME),
        (".rodata.flow.=1", OVERRIDE_NAME),
        (".rodata.prot=1", OVERRIDE_NAME),
        (".rodata.=1", OVERRIDE_NAME),
        (".rodata/count=1", OVERRIDE_NAME),
        (".rodata=1", OVERRIDE_NAME),
        (".bss.count=1", OVERRIDE_NAME),
        ("count=1", OVERRIDE_NAME),
        ("flows.count=1", OVERRIDE_NAME),
        ("flows:count=1", OVERRIDE_NAME),
        ("flows.key_size=1", OVERRIDE_NAME),
        ("flows.inner.max_entries=1", OVERRIDE_NAME),
        ("tables.inner.key_size=1", OVERRIDE_NAME),
        ("tables.inner.pinning=none", OVERRIDE_REFUSED),
        ("flows.value_size=1", OVERRIDE_REFUSED),
        ("flows.max_entries=-1", OVERRIDE_VALUE),
        ("flows.max_entries=4294967296", OVERRIDE_VALUE),
        ("flows.max_entries=4Gi", OVERRIDE_VALUE),
        ("flows.max_entries=[1]", OVERRIDE_VALUE),
        ("flows.map_flags=BPF_F_NO_PREALOC", OVERRIDE_VALUE),
        ("flows.map_flags=", OVERRIDE_VALUE),
        ("flows.map_flags=1|", OVERRIDE_VALUE),
        ("flows.pinning=1", OVERRIDE_VALUE),
        (".rodata.max_entries=2", OVERRIDE_REFUSED),
        (".rodata.map_flags=0", OVERRIDE_REFUSED),
        (".rodata/value_size=0", OVERRIDE_REFUSED),
        (".rodata/value_size=1Gi", OVERRIDE_REFUSED),
        (".kconfig.CONFIG_HZ=100", OVERRIDE_REFUSED),
        ("flow.kconfig.CONFIG_HZ=100", OVERRIDE_REFUSED),
    ] {
        let found = refused(&plan, &set(&[text]));
        assert_eq!(found.code, code, "{text}: {found}");
        assert!(
            found.notes.iter().any(|note| note.contains("override")),
            "{text}"
        );
    }
}

#[test]
fn help_says_what_to_write() {
    let plan = little();
    for (text, help) in [
        ("flwos.max_entries=1", "did you mean 'flows'?"),
        ("flows.max_entrys=1", "did you mean 'max_entries'?"),
        ("flows.map_flags=NO_PREALOC", "did you mean 'NO_PREALLOC'?"),
        (".rodata.prot=1", "did you mean 'port'?"),
        (".rodata.flow.packet=1", "did you mean 'packets'?"),
        (".rodata.mode=LERN", "did you mean 'LEARN'?"),
        (".rodat.port=1", "did you mean '.rodata'?"),
        (
            ".rodata.address=ab",
            "write [1, 2, 3], or text in double quotes",
        ),
        (
            ".rodata.ports=80",
            "write [1, 2, 3]; elements that are left out are 0",
        ),
    ] {
        assert_eq!(
            refused(&plan, &set(&[text])).help.as_deref(),
            Some(help),
            "{text}"
        );
    }
    let found = refused(&plan, &Overrides::default().skip("tabel"));
    assert_eq!(found.help.as_deref(), Some("did you mean 'table'?"));
}
