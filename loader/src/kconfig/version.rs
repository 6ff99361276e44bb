//! `LINUX_KERNEL_VERSION` (`get_kernel_version` of libbpf).

use crate::kernel::Identity;

/// `KERNEL_VERSION(major, minor, patch)` of the running kernel, 0 if it cannot be told.
///
/// Distributions whose releases do not name the patch say it elsewhere: Ubuntu in
/// `/proc/version_signature`, Debian in the version of `uname`.
pub(super) fn version_code(kernel: &Identity) -> u32 {
    let ubuntu = || numbers(second_word(kernel.signature.as_deref()?)?);
    let debian = || {
        let (_, rest) = kernel.version.split_once("Debian ")?;
        numbers(rest)
    };
    let found = ubuntu().filter(|code| *code != 0);
    let found = found.or_else(|| debian().filter(|code| *code != 0));
    found
        .or_else(|| numbers(&kernel.release))
        .unwrap_or_default()
}

/// What follows the first two words.
fn second_word(text: &str) -> Option<&str> {
    let space = |text: &str| text.find(|it: char| it.is_ascii_whitespace());
    let mut text = text.trim_ascii_start();
    for _ in 0..2 {
        text = text.get(space(text)?..)?.trim_ascii_start();
    }
    Some(text)
}

/// `%u.%u.%u`.
fn numbers(text: &str) -> Option<u32> {
    let (major, rest) = number(text)?;
    let (minor, rest) = number(rest.strip_prefix('.')?)?;
    let (patch, _) = number(rest.strip_prefix('.')?)?;
    let code = major.wrapping_shl(16).wrapping_add(minor.wrapping_shl(8));
    Some(code.wrapping_add(patch.min(255)))
}

fn number(text: &str) -> Option<(u32, &str)> {
    let text = text.trim_ascii_start();
    let end = text.find(|it: char| !it.is_ascii_digit());
    let (digits, rest) = text.split_at_checked(end.unwrap_or(text.len()))?;
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(release: &str, version: &str, signature: Option<&str>) -> u32 {
        version_code(&Identity {
            release: release.to_owned(),
            version: version.to_owned(),
            signature: signature.map(str::to_owned),
        })
    }

    #[test]
    fn codes_are_the_kernels() {
        assert_eq!(code("6.18.44-fc", "#1 SMP", None), 0x06_12_2c);
        assert_eq!(code("4.19.325", "", None), 0x04_13_ff);
        let ubuntu = Some("Ubuntu 5.4.0-12.15-generic 5.4.8\n");
        assert_eq!(code("5.4.0", "#1", ubuntu), 0x05_04_08);
        let debian = "#1 SMP Debian 4.19.260-1 (2022-09-29)";
        assert_eq!(code("4.19.0-22-amd64", debian, None), 0x04_13_ff);
        assert_eq!(code("5.4.1", "#1", Some("nonsense")), 0x05_04_01);
        assert_eq!(code("5.4.1", "#1 Debian 12", None), 0x05_04_01);
        for none in ["", "6.18", "6.18-rc1", "x", "6..1", "99999999999.1.1"] {
            assert_eq!(code(none, "", None), 0, "{none}");
        }
    }
}
