//! Terms of Erlang: what `ErlDrvTermData` and `ei` are to a C driver.
//!
//! ```
//! use safe_port_driver::Term;
//!
//! let term = Term::tuple([Term::atom("size"), Term::from(42)]);
//! let back = Term::decode(&term.encode().unwrap()).unwrap();
//! let Some([name, size]) = back.as_tuple() else { panic!("not a pair") };
//! assert_eq!((name.as_atom(), size.as_int()), (Some("size"), Some(42)));
//! ```

mod check;
mod convert;

use std::fmt;

pub use self::check::MAX_DEPTH;
pub use self::convert::Opaque;

/// A term. In between it travels in external term format, which the [`eetf`] crate reads and writes.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// An atom.
    Atom(String),
    /// An integer that fits 128 bits; larger ones are [`Term::Opaque`].
    Int(i128),
    /// A float. Erlang has none for infinities and NaN: [`Term::encode`] refuses them.
    Float(f64),
    /// A binary: what Elixir calls a string, if it is UTF-8.
    Binary(Vec<u8>),
    /// A proper list. A charlist is a list of integers.
    List(Vec<Term>),
    /// A list that ends in something else than `[]`: the items and that end.
    ImproperList(Vec<Term>, Box<Term>),
    /// A tuple.
    Tuple(Vec<Term>),
    /// A map; of equal keys the last counts.
    Map(Vec<(Term, Term)>),
    /// What a driver can only pass on: pids, ports, references, external functions, bitstrings and huge integers.
    Opaque(Opaque),
}

/// Why bytes are not a term, or why a term cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermError(String);

impl TermError {
    fn new(text: impl Into<String>) -> TermError {
        TermError(text.into())
    }
}

impl fmt::Display for TermError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for TermError {}

impl Term {
    /// Reads one term, as `term_to_binary/1` writes it. No bytes can do harm here.
    ///
    /// Refused are terms nested deeper than [`MAX_DEPTH`], compressed terms and functions other than
    /// `&Module.name/arity`.
    pub fn decode(bytes: &[u8]) -> Result<Term, TermError> {
        let bytes = check::check(bytes)?;
        eetf::Term::decode(&bytes[..]).map(Term::from).map_err(|error| TermError::new(error.to_string()))
    }

    /// Writes the term so that `binary_to_term/1` reads it.
    ///
    /// Refused are terms nested deeper than [`MAX_DEPTH`], atoms of more than 255 characters, infinities and NaN.
    pub fn encode(&self) -> Result<Vec<u8>, TermError> {
        let mut bytes = Vec::new();
        let term = convert::to_eetf(self, 0)?;
        term.encode(&mut bytes).map_err(|error| TermError::new(error.to_string()))?;
        Ok(bytes)
    }

    /// The atom `name`.
    pub fn atom(name: impl Into<String>) -> Term {
        Term::Atom(name.into())
    }

    /// A binary.
    pub fn binary(bytes: impl Into<Vec<u8>>) -> Term {
        Term::Binary(bytes.into())
    }

    /// A list.
    pub fn list(items: impl IntoIterator<Item = Term>) -> Term {
        Term::List(items.into_iter().collect())
    }

    /// A tuple.
    pub fn tuple(items: impl IntoIterator<Item = Term>) -> Term {
        Term::Tuple(items.into_iter().collect())
    }

    /// A map.
    pub fn map(pairs: impl IntoIterator<Item = (Term, Term)>) -> Term {
        Term::Map(pairs.into_iter().collect())
    }

    /// The name of an atom.
    pub fn as_atom(&self) -> Option<&str> {
        match self {
            Term::Atom(name) => Some(name),
            _ => None,
        }
    }

    /// The value of an integer that fits 128 bits.
    pub fn as_int(&self) -> Option<i128> {
        match self {
            Term::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a float.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Term::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The bytes of a binary.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Term::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The text of a binary that is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The items of a proper list.
    pub fn as_list(&self) -> Option<&[Term]> {
        match self {
            Term::List(items) => Some(items),
            _ => None,
        }
    }

    /// The items of a tuple.
    pub fn as_tuple(&self) -> Option<&[Term]> {
        match self {
            Term::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// What a map has for `key`.
    pub fn get(&self, key: &Term) -> Option<&Term> {
        match self {
            Term::Map(pairs) => pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }
}

impl From<bool> for Term {
    fn from(value: bool) -> Term {
        Term::atom(if value { "true" } else { "false" })
    }
}

impl From<&str> for Term {
    /// A binary with this text; for an atom see [`Term::atom`].
    fn from(text: &str) -> Term {
        Term::binary(text)
    }
}

impl From<f64> for Term {
    fn from(value: f64) -> Term {
        Term::Float(value)
    }
}

macro_rules! from_integers {
    ($($type:ty)*) => {$(
        impl From<$type> for Term {
            fn from(value: $type) -> Term {
                Term::Int(value.into())
            }
        }
    )*};
}

from_integers!(u8 i8 u16 i16 u32 i32 u64 i64 i128);
