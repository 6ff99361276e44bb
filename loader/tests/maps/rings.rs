//! Ring buffers.

use std::time::{Duration, Instant};

use bpfplan_loader::maps::{ArrayOfMaps, MapHandle, RingBuf};
use bpfplan_loader::zerocopy::FromBytes as _;
use bpfplan_plan::uapi;
use libtest_mimic::Failed;

use crate::ring_program::{events, run};
use crate::{made, outer, raw, sample};

const LONG: Option<Duration> = Some(Duration::from_secs(10));

/// Times in the events that are there.
fn drain(ring: &mut RingBuf, length: usize) -> Result<Vec<u64>, Failed> {
    let mut times = Vec::new();
    while let Some(event) = ring.next()? {
        assert_eq!(event.len(), length);
        let (time, rest) = u64::read_from_prefix(event).expect("8 bytes");
        assert!(rest.iter().all(|byte| *byte == 0));
        times.push(time);
    }
    Ok(times)
}

/// Many more than the ring holds at a time, so that records go round its end.
pub(crate) fn events_come_in_order() -> Result<(), Failed> {
    for length in [8, 24, 504] {
        let mut ring: RingBuf = made(uapi::BPF_MAP_TYPE_RINGBUF, [0, 0], 4096);
        let program = events(&ring, length);
        assert_eq!(ring.next()?, None);
        let mut all = Vec::new();
        for _ in 0..100 {
            run(&program, 5);
            assert!(ring.wait(LONG)?);
            all.extend(drain(&mut ring, length as usize)?);
        }
        assert_eq!(all.len(), 500, "{length}");
        assert!(all.is_sorted() && all[0] > 0, "{length}");
    }
    Ok(())
}

pub(crate) fn waiting_ends() -> Result<(), Failed> {
    let mut ring: RingBuf = made(uapi::BPF_MAP_TYPE_RINGBUF, [0, 0], 4096);
    let start = Instant::now();
    assert!(!ring.wait(Some(Duration::from_millis(30)))?);
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert!(!ring.wait(Some(Duration::ZERO))?);
    let program = events(&ring, 8);
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        run(&program, 1);
    });
    assert!(ring.wait(Some(Duration::MAX))?, "an event ends it");
    writer.join().expect("it runs");
    assert!(ring.wait(None)?, "the event is still there");
    assert_eq!(drain(&mut ring, 8)?.len(), 1);
    assert!(!ring.wait(Some(Duration::ZERO))?);
    Ok(())
}

/// A ring for each CPU, made from the template, all of them waited for at once.
pub(crate) fn rings_of_an_outer_map() -> Result<(), Failed> {
    let template = sample::map("", uapi::BPF_MAP_TYPE_RINGBUF, [0, 0], 4096);
    let loaded = outer(uapi::BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, template);
    let outer: ArrayOfMaps<RingBuf> = ArrayOfMaps::from_loaded(&loaded.maps[0])?;
    let builder = outer.template()?.max_entries(8192);
    let mut rings: Vec<RingBuf> = (0..4).map(|_| builder.create()).collect::<Result<_, _>>()?;
    let slots: Vec<(u32, &RingBuf)> = (0..).zip(&rings).collect();
    outer.insert_all(&slots)?;
    assert!(!RingBuf::wait_any(&rings, Some(Duration::ZERO))?);
    let program = events(&rings[2], 16);
    run(&program, 3);
    assert!(RingBuf::wait_any(&rings, LONG)?);
    let counts: Vec<usize> = rings
        .iter_mut()
        .map(|ring| drain(ring, 16).map(|events| events.len()))
        .collect::<Result<_, _>>()?;
    assert_eq!(counts, [0, 0, 3, 0]);
    let mut again = outer.get(&2)?.expect("slot 2 is filled");
    run(&program, 1);
    assert_eq!(drain(&mut again, 16)?.len(), 1);
    Ok(())
}

/// Another process may write how far the ring is read. Nothing worse than an error comes of it.
pub(crate) fn a_damaged_ring_is_an_error() -> Result<(), Failed> {
    for position in [1usize, 12, 4096, 1 << 20, usize::MAX] {
        let map = raw(uapi::BPF_MAP_TYPE_RINGBUF, [0, 0], 4096, 0);
        // SAFETY: nothing is mapped there yet, and the page is that of the position.
        unsafe {
            let page = rustix::mm::mmap(
                std::ptr::null_mut(),
                rustix::param::page_size(),
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::SHARED,
                &map,
                0,
            )?;
            page.cast::<usize>().write_volatile(position);
            rustix::mm::munmap(page, rustix::param::page_size())?;
        }
        let mut ring = RingBuf::from_map(map)?;
        let program = events(&ring, 8);
        run(&program, 1);
        let error = ring.next().unwrap_err();
        assert!(
            error.to_string().contains("damaged the ring"),
            "{position}: {error}"
        );
    }
    Ok(())
}
