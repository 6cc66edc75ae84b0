//! One record of a block: its template, and the record that its text is.

use std::fmt;

use crate::gotemplate::{ExecError, Fields, Template, TextBuf};
use crate::wire::{Name, Section};
use crate::zone::{self, Fault, RecordHead};

/// One argument of `answer`, `authority` or `additional`.
pub(super) struct Record {
    pub(super) section: Section,
    pub(super) template: Template,
}

/// Where the record that was made last stands, uncompressed.
#[derive(Default)]
pub(super) struct Scratch {
    owner: Vec<u8>,
    rdata: Vec<u8>,
}

/// Why a record could not be made.
pub(super) enum Unmade<'r> {
    /// The template failed.
    Template(&'r Template, ExecError),
    /// Its text is no record.
    Text(Fault),
}

impl Record {
    /// Compiles a record's template; `word` is what errors call it.
    pub(super) fn new(section: Section, word: &str, text: &str) -> Result<Self, String> {
        let template = Template::parse(word, text).map_err(|error| error.to_string())?;
        Ok(Self { section, template })
    }

    /// The strings in the template: metadata labels are among them.
    pub(super) fn strings(&self) -> impl Iterator<Item = &str> {
        self.template.strings().into_iter()
    }

    /// Makes the record into `scratch`. `text` is room for its text.
    pub(super) fn make(
        &self,
        data: &dyn Fields,
        text: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<RecordHead, Unmade<'_>> {
        let mut text = TextBuf::new(text);
        let made = self.template.execute(data, &mut text);
        made.map_err(|error| Unmade::Template(&self.template, error))?;
        let Scratch { owner, rdata } = scratch;
        zone::record(text.as_bytes(), owner, rdata).map_err(Unmade::Text)
    }
}

impl Scratch {
    /// The owner.
    pub(super) fn owner(&self) -> Name<'_> {
        Name::from_wire(&self.owner).map_or(Name::ROOT, |(name, _)| name)
    }

    /// The RDATA, names in it uncompressed.
    pub(super) fn rdata(&self) -> &[u8] {
        &self.rdata
    }
}

impl fmt::Display for Unmade<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unmade::Template(template, error) => f.write_str(&template.describe(error)),
            Unmade::Text(fault) => fault.fmt(f),
        }
    }
}
