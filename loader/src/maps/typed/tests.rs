use proptest::prelude::*;

use super::{read, read_each, write_each};

#[test]
fn values_of_cpus_are_8_bytes_apart() {
    let bytes = write_each(&[[1u8, 2, 3], [4, 5, 6]]).unwrap();
    assert_eq!(bytes, [1, 2, 3, 0, 0, 0, 0, 0, 4, 5, 6, 0, 0, 0, 0, 0]);
    let bytes = write_each(&[[7u8; 9]]).unwrap();
    assert_eq!(bytes.len(), 16);
    assert_eq!(write_each::<u64>(&[]), Some(Vec::new()));
}

#[test]
fn types_without_size_are_no_values() {
    assert_eq!(write_each(&[(); 3]), None);
    assert_eq!(read_each::<()>(&[0; 8]), None);
}

#[test]
fn bytes_of_another_number_are_no_value() {
    assert_eq!(read::<u32>(&[0; 3]), None);
    assert_eq!(read::<u32>(&[0; 5]), None);
}

proptest! {
    #[test]
    fn what_is_written_is_read(values: Vec<[u8; 5]>, wide: Vec<[u64; 3]>) {
        let bytes = write_each(&values).unwrap();
        prop_assert_eq!(bytes.len(), values.len() * 8);
        prop_assert_eq!(read_each(&bytes), Some(values));
        let bytes = write_each(&wide).unwrap();
        prop_assert_eq!(bytes.len(), wide.len() * 24);
        prop_assert_eq!(read_each(&bytes), Some(wide));
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
        let values = read_each::<[u8; 12]>(&bytes).unwrap();
        prop_assert_eq!(values.len(), bytes.len() / 16);
        let _ = read::<u64>(&bytes);
    }
}
