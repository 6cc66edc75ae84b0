//! Namespaces that are named like top-level domains.
//!
//! A pod asks for `example.com` with its search path first: `example.com.svc.cluster.local` is the
//! service `example` of the namespace `com`, whoever made it (CVE-2022-2835, CVE-2022-2837). Such a
//! namespace is told of; what it answers is right.

/// Generic top-level domains that are in wide use, in order.
#[rustfmt::skip]
const GENERIC: &[&str] = &[
    "academy", "aero", "agency", "apartments", "app", "arpa", "art", "asia", "audio", "auto",
    "bank", "bar", "beauty", "best", "bid", "bike", "biz", "black", "blog", "blue", "boo", "bot",
    "build", "business", "cafe", "cam", "camera", "capital", "care", "careers", "cash", "cat",
    "center", "channel", "chat", "church", "city", "cleaning", "click", "cloud", "club", "codes",
    "coffee", "com", "community", "company", "computer", "consulting", "cool", "coop", "country",
    "cricket", "dad", "date", "dating", "day", "deals", "delivery", "design", "dev", "digital",
    "direct", "directory", "dog", "domains", "download", "edu", "education", "email", "energy",
    "engineering", "estate", "events", "exchange", "expert", "express", "faith", "family", "fans",
    "farm", "fashion", "finance", "fit", "foo", "foundation", "fun", "fund", "fyi", "gallery",
    "game", "games", "garden", "gdn", "gift", "global", "gold", "gov", "graphics", "green", "group",
    "guide", "guru", "health", "help", "homes", "host", "hosting", "house", "icu", "inc", "info",
    "ing", "ink", "institute", "int", "international", "jobs", "kitchen", "land", "law", "legal",
    "life", "limited", "link", "live", "loan", "lol", "london", "love", "ltd", "management",
    "market", "marketing", "media", "meme", "men", "mil", "mobi", "mom", "money", "monster", "mov",
    "movie", "museum", "name", "net", "network", "new", "news", "ninja", "nyc", "one", "online",
    "ooo", "org", "page", "partners", "party", "pet", "phd", "photo", "photos", "pics", "pizza",
    "place", "plus", "post", "press", "pro", "prof", "properties", "pub", "quest", "racing", "red",
    "rest", "restaurant", "review", "reviews", "rip", "rocks", "run", "sale", "school", "science",
    "security", "services", "sex", "shop", "show", "site", "skin", "social", "software",
    "solutions", "space", "storage", "store", "stream", "studio", "style", "support", "surf",
    "systems", "tax", "team", "tech", "technology", "tel", "tips", "today", "tools", "top", "tours",
    "town", "trade", "trading", "training", "travel", "tube", "university", "vc", "video", "vip",
    "vote", "watch", "webcam", "website", "wiki", "win", "wine", "work", "works", "world", "wtf",
    "xxx", "xyz", "yoga", "zip", "zone",
];

/// Whether a label in lower case is a top-level domain: two letters (those of countries, ISO 3166, are
/// given out as they come), an internationalised one, or a generic one in wide use.
pub fn is_top_level(label: &str) -> bool {
    let is_country = label.len() == 2 && label.bytes().all(|octet| octet.is_ascii_lowercase());
    is_country || label.starts_with("xn--") || GENERIC.binary_search(&label).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_top_level_domains() {
        assert!(GENERIC.is_sorted());
        for label in ["com", "zone", "academy", "de", "dev", "xn--p1ai"] {
            assert!(is_top_level(label), "{label}");
        }
        for label in ["default", "kube-system", "d1", "c", "staging"] {
            assert!(!is_top_level(label), "{label}");
        }
    }
}
