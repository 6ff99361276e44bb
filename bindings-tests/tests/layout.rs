//! What generated types make of the initial contents that clang laid out.

#![allow(clippy::float_cmp, reason = "the values are exact")]

use bpfplan_bindings_tests::{data_values, data_values_clang14, data_values_clang19};
use bpfplan_loader::bindings::Ptr;

macro_rules! data_values {
    ($($module:ident::$name:ident),*) => {
        $(
            #[test]
            fn $module() {
                use $module::types::{bias, mode};

                let open = $module::$name::open().unwrap();
                let rodata = &open.rodata;
                assert_eq!((rodata.tiny, rodata.small), (255, -128));
                assert_eq!((rodata.port, rodata.offset), (8080, -7));
                assert_eq!((rodata.huge, rodata.least), (u64::MAX, i64::MIN));
                assert_eq!((rodata.enabled, rodata.disabled), (true.into(), false.into()));
                assert_eq!(rodata.letter, b'x');
                assert_eq!(&rodata.device[..5], b"eth0\0");
                assert_eq!(&rodata.names[2], b"right\0\0\0");
                assert_eq!(rodata.mode, mode::MODE_ENFORCE);
                assert_eq!(rodata.bias, bias::BIAS_LOW);
                assert_eq!(rodata.ratio, 0.75);
                assert_eq!(rodata.grid, [[1, 2, 3], [4, 5, 6]]);
                let rule = open.data.rule;
                assert_eq!((rule.low(), rule.middle(), rule.high()), (5, 200_000, -3));
                assert_eq!(rule.mode, mode::MODE_LEARN);
                assert_eq!((rule.from.bytes[0], rule.from.port), (10, 53));
                assert_eq!(rule.anon_5.word(), 1);
                assert_eq!(&rule.label, b"inbound\0\0\0\0\0");
                assert_eq!(rule.next, Ptr::NULL);
                let sparse = open.data.sparse;
                assert_eq!((sparse[2], sparse[100], sparse[101]), (7, 8, 0));
            }
        )*
    };
}

data_values!(
    data_values::DataValues,
    data_values_clang14::DataValuesClang14,
    data_values_clang19::DataValuesClang19
);

#[test]
fn what_is_set_comes_back() {
    let mut open = data_values::DataValues::open().unwrap();
    let rule = &mut open.data.rules;
    rule[0].set_low(7);
    rule[0].set_middle(u32::MAX);
    rule[0].set_high(-1);
    assert_eq!(
        (rule[0].low(), rule[0].middle(), rule[0].high()),
        (7, 0x3_ffff, -1)
    );
    rule[0].set_middle(0);
    assert_eq!(
        (rule[0].low(), rule[0].middle(), rule[0].high()),
        (7, 0, -1)
    );
    rule[0].anon_5.set_word(0x0102);
    assert_eq!(rule[0].anon_5.bytes()[..2], 0x0102_u64.to_ne_bytes()[..2]);
}
