//! The lines of a kernel configuration, compressed or not.

use std::io::{BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::{KernelConfig, MAX_TEXT};

/// What libbpf reads of a line at once (`PATH_MAX` without the NUL); the rest of a longer line is
/// a line of its own to it.
const MAX_LINE: u64 = 4095;
/// How gzip files begin. zlib, and so libbpf, takes others as they are.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads line by line, in little memory however much comes out of a compressed text.
pub(super) struct Lines<'a> {
    text: Box<dyn BufRead + 'a>,
    left: u64,
    /// Number of the current line.
    number: u64,
    line_ended: bool,
}

/// Why a text ends before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// It does not decompress.
    Damaged,
    /// It is larger than any kernel configuration.
    TooLarge,
}

/// What [`Lines::next`] found.
pub(super) type Next = Result<Option<(u64, Vec<u8>)>, Broken>;

impl<'a> Lines<'a> {
    pub(super) fn new(config: &'a KernelConfig) -> Self {
        let bytes = config.bytes.as_slice();
        Self {
            text: if bytes.starts_with(&GZIP) {
                Box::new(BufReader::new(MultiGzDecoder::new(bytes)))
            } else {
                Box::new(bytes)
            },
            left: MAX_TEXT,
            number: 0,
            line_ended: true,
        }
    }

    /// The number of the next line and what libbpf sees of it: up to a NUL, without the newline.
    pub(super) fn next(&mut self) -> Next {
        let mut line = Vec::new();
        let limit = MAX_LINE.min(self.left);
        let read = self.text.by_ref().take(limit).read_until(b'\n', &mut line);
        let read = read.map_err(|_| Broken::Damaged)?;
        if read == 0 {
            // Nothing was asked for, or there is nothing more.
            return if limit == 0 {
                Err(Broken::TooLarge)
            } else {
                Ok(None)
            };
        }
        self.left = self
            .left
            .saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
        if self.line_ended {
            self.number = self.number.saturating_add(1);
        }
        self.line_ended = line.last() == Some(&b'\n');
        if let Some(end) = line.iter().position(|byte| *byte == 0) {
            line.truncate(end);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(Some((self.number, line)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn config(bytes: &[u8]) -> KernelConfig {
        KernelConfig {
            name: "config".to_owned(),
            bytes: bytes.to_vec(),
        }
    }

    fn all(config: &KernelConfig) -> (Vec<(u64, String)>, Option<Broken>) {
        let mut lines = Lines::new(config);
        let mut all = Vec::new();
        loop {
            match lines.next() {
                Ok(Some((number, line))) => {
                    all.push((number, String::from_utf8_lossy(&line).into_owned()));
                }
                Ok(None) => return (all, None),
                Err(why) => return (all, Some(why)),
            }
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap_or_default();
        encoder.finish().unwrap_or_default()
    }

    #[test]
    fn lines_are_what_libbpf_reads() {
        let expected = vec![
            (1, "CONFIG_A=y".to_owned()),
            (2, String::new()),
            (3, "b".to_owned()),
            (4, "last".to_owned()),
        ];
        let text = b"CONFIG_A=y\n\nb\0hidden\nlast";
        assert_eq!(all(&config(text)), (expected.clone(), None));
        assert_eq!(all(&config(&gzip(text))), (expected.clone(), None));
        // Members may follow each other.
        let mut two = gzip(&text[..11]);
        two.extend(gzip(&text[11..]));
        assert_eq!(all(&config(&two)), (expected, None));
    }

    #[test]
    fn a_long_line_is_read_in_pieces() {
        let mut text = vec![b'x'; 4095 + 10];
        text.extend(b"\nnext");
        let (lines, broken) = all(&config(&text));
        let lengths: Vec<_> = lines
            .iter()
            .map(|(number, it)| (*number, it.len()))
            .collect();
        assert_eq!((lengths, broken), (vec![(1, 4095), (1, 10), (2, 4)], None));
    }

    #[test]
    fn what_is_compressed_badly_ends() {
        let whole = gzip(&b"CONFIG_A=y\n".repeat(2000));
        let (_, broken) = all(&config(&whole[..whole.len() / 2]));
        assert_eq!(broken, Some(Broken::Damaged));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let size = usize::try_from(MAX_TEXT).unwrap_or(0) + 1;
        let bomb = gzip(&vec![b'x'; size]);
        assert!(bomb.len() < 1 << 20);
        let (lines, end) = all(&config(&bomb));
        let sum: usize = lines.iter().map(|(_, line)| line.len()).sum();
        assert_eq!((sum, end), (size - 1, Some(Broken::TooLarge)));
    }
}
