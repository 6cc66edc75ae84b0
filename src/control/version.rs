//! Who this program says it is: CoreDNS's version (whose behaviour this is; scripts read it), then its own.

/// The CoreDNS release whose behaviour this is.
pub const COREDNS: &str = "1.14.7";
/// This program's own version.
pub const CORELANE: &str = env!("CARGO_PKG_VERSION");
/// The commit that a release was built from, or why there is none (see build.rs).
pub const COMMIT: &str = env!("CORELANE_COMMIT");
/// The compiler, where CoreDNS names Go's: the label `goversion` of `coredns_build_info`.
pub const COMPILER: &str = env!("CORELANE_RUSTC");

/// What a page for people says: `corelane-0.1.0 (CoreDNS-1.14.7)`.
pub fn name() -> String {
    format!("corelane-{CORELANE} (CoreDNS-{COREDNS})")
}

/// The two lines of `-version`, which also end the banner:
/// `CoreDNS-1.14.7` and `linux/amd64, corelane-0.1.0, COMMIT`.
pub fn text() -> String {
    let os = std::env::consts::OS;
    format!("CoreDNS-{COREDNS}\n{os}/{}, corelane-{CORELANE}, {COMMIT}\n", architecture())
}

/// The processor by Go's name for it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn scripts_find_the_version_and_the_platform() {
        let text = super::text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "CoreDNS-1.14.7");
        assert!(lines[1].starts_with("linux/"), "{text}");
        assert!(
            lines[1].contains(&format!(", corelane-{}, ", env!("CARGO_PKG_VERSION"))),
            "{text}"
        );
        assert_eq!(lines.len(), 2);
        assert!(super::COMPILER.len() > "rustc".len());
    }
}
