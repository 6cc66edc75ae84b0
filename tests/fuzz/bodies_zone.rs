//! What the fuzz target of zone files checks of any octets; `tests/fuzz_replay_zone.rs` runs the same
//! on the seeds.

use std::io::ErrorKind;
use std::path::Path;

use corelane::wire::{Name, NameBuf};
use corelane::zone::{ScanError, ZoneBuilder, scan_with};

/// Octets that are read of an input: `$GENERATE` makes 65 536 lines of a few.
const TEXT_BYTES_MAX: usize = 1 << 10;
/// Records that are taken before the scan is told to stop.
const RECORDS_MAX: usize = 2_000;
/// Files that an input may include; all of them are the input again. The disk is never asked.
const INCLUDES_MAX: usize = 3;

/// Scanning ends; every record is well formed; a fault has a place; what was taken makes a zone, or
/// says why not.
pub fn zone_scan(data: &[u8]) {
    let text = &data[..data.len().min(TEXT_BYTES_MAX)];
    let origin = NameBuf::parse("example.org.").expect("a name");
    let mut builder = ZoneBuilder::new(&origin, text.len());
    let (mut records, mut includes) = (0, 0);
    let mut open = |_: &Path| {
        includes += 1;
        if includes > INCLUDES_MAX { Err(ErrorKind::NotFound.into()) } else { Ok(text.to_vec()) }
    };
    let apex = origin.as_name().as_bytes();
    let scanned = scan_with(text, Path::new("/nowhere/db"), apex, &mut open, &mut |entry| {
        records += 1;
        if records > RECORDS_MAX {
            return Err("enough");
        }
        let (name, rest) = Name::from_wire(entry.owner).expect("an owner");
        assert!(rest.is_empty() && name.as_bytes() == name.as_bytes().to_ascii_lowercase());
        assert!(entry.rdata.len() <= usize::from(u16::MAX));
        builder.push(entry.owner, entry.rtype, entry.ttl, entry.rdata)
    });
    match scanned {
        Ok(()) => assert!(records <= RECORDS_MAX),
        Err(ScanError::Fault(path, fault)) => {
            assert!(path.starts_with("/") && fault.line > 0 && fault.column > 0, "{fault:?}");
        }
        Err(ScanError::Read(path, error)) => panic!("{}: {error}", path.display()),
    }
    drop(builder.finish());
}
