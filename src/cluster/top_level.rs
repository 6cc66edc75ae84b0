//! Namespaces that are named like top-level domains.
//!
//! A pod asks for `example.com` with its search path first: `example.com.svc.cluster.local` is the
//! service `example` of the namespace `com`, whoever made it (CVE-2022-2835, CVE-2022-2837). Such a
//! namespace is told of; what it answers is right.
//!
//! Costs: a walk through ten kilobytes for each namespace that appears.

/// The generic top-level domains of the root zone in August 2026, in order.
const GENERIC: &str = include_str!("top_level.txt");

/// Whether a label in lower case is a top-level domain: two letters (those of countries, ISO 3166, are
/// given out as they come), an internationalised one, or a generic one.
pub fn is_top_level(label: &str) -> bool {
    let is_country = label.len() == 2 && label.bytes().all(|octet| octet.is_ascii_lowercase());
    let is_generic = || GENERIC.split_ascii_whitespace().any(|one| one == label);
    is_country || label.starts_with("xn--") || is_generic()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_top_level_domains() {
        assert!(GENERIC.split_ascii_whitespace().is_sorted());
        for label in ["com", "zone", "aaa", "prod", "data", "de", "dev", "xn--p1ai"] {
            assert!(is_top_level(label), "{label}");
        }
        for label in ["default", "kube-system", "d1", "c", "staging", "pro d", ""] {
            assert!(!is_top_level(label), "{label}");
        }
    }
}
