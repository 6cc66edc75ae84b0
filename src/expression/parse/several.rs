//! Arrays and maps; those of literals become literals themselves.

use super::{Error, Id, Kind, Node, Parser, Place, Value, Word};
use crate::limits::EXPRESSION_LITERALS_MAX;

impl Parser<'_> {
    pub(super) fn list(&mut self) -> Result<Id, Error> {
        let at = self.at;
        self.next();
        let mut ids = Vec::new();
        while self.sign() != "]" {
            if !ids.is_empty() {
                self.expect(",")?;
                if self.sign() == "]" {
                    break;
                }
            }
            ids.push(self.expression(0)?);
        }
        self.next();
        self.several(at, &ids, Kind::List)
    }

    pub(super) fn map(&mut self) -> Result<Id, Error> {
        let at = self.at;
        self.next();
        let mut ids = Vec::new();
        while self.sign() != "}" {
            if !ids.is_empty() {
                self.expect(",")?;
                if self.sign() == "}" {
                    break;
                }
            }
            let key = self.at;
            ids.push(match self.word().clone() {
                Word::Name(text) | Word::Text(text) => {
                    self.next();
                    self.text(key, &text)?
                }
                Word::Int(number) => {
                    self.next();
                    self.text(key, &number.to_string())?
                }
                Word::Sign("(") => self.expression(0)?,
                _ => return Err(self.unexpected()),
            });
            self.expect(":")?;
            ids.push(self.expression(0)?);
        }
        self.next();
        self.several(at, &ids, Kind::Map)
    }

    /// A list or a map; of literals, it is one itself.
    fn several(&mut self, at: usize, ids: &[Id], kind: Kind) -> Result<Id, Error> {
        let program = &mut self.draft.program;
        let values: Option<Vec<Value>> = ids
            .iter()
            .map(|id| match program.nodes[*id as usize] {
                Node::Value(value) => Some(value),
                _ => None,
            })
            .collect();
        let is_list = kind == Kind::List;
        if let Some(values) = values {
            if program.values.len() + values.len() > EXPRESSION_LITERALS_MAX {
                return Err(self.error(at, "too many literals"));
            }
            let place = Place { at: program.values.len() as u32, len: values.len() as u32 };
            program.values.extend(values);
            let value = if is_list { Value::List(place) } else { Value::Map(place) };
            return self.add(at, Node::Value(value), kind, &[]);
        }
        let children = self.children(ids);
        let node = if is_list { Node::List(children) } else { Node::Map(children) };
        self.add(at, node, kind, ids)
    }
}
