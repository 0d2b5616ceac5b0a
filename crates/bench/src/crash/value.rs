//! Values that say which write they belong to and can be made again from that.

use bytes::Bytes;

use crate::rng::Rng;

/// Bytes of the id and the length at the front of every value.
const HEADER: usize = 12;

/// The value of one put: all its bytes follow from these two numbers.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Value {
    /// The put, never used twice in a run.
    pub id: u64,
    /// Bytes, at least [`Value::MIN_BYTES`].
    pub len: u32,
}

impl Value {
    /// The shortest value. Bytes.
    pub const MIN_BYTES: u32 = HEADER as u32;

    /// Its bytes.
    pub fn bytes(self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.len as usize + 8);
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
        let mut rng = Rng::new(self.id);
        while bytes.len() < self.len as usize {
            bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
        }
        bytes.truncate(self.len as usize);
        bytes.into()
    }

    /// The value these bytes are.
    ///
    /// # Errors
    /// They are not, whole, what any put of this run wrote.
    pub fn parse(bytes: &[u8]) -> Result<Value, String> {
        let damaged = |what: &str| format!("a value of {} bytes is not what was written: {what}", bytes.len());
        let (id, rest) = bytes.split_first_chunk().ok_or_else(|| damaged("too short"))?;
        let (len, _) = rest.split_first_chunk().ok_or_else(|| damaged("too short"))?;
        let value = Value { id: u64::from_le_bytes(*id), len: u32::from_le_bytes(*len) };
        if value.len as usize != bytes.len() {
            return Err(damaged(&format!("it says {} bytes", value.len)));
        }
        if value.bytes() != bytes {
            return Err(damaged("its content differs"));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_again_and_damage_is_seen() {
        for len in [Value::MIN_BYTES, 13, 20, 4096] {
            let value = Value { id: 7 << 20, len };
            let bytes = value.bytes();
            assert_eq!(bytes.len(), len as usize);
            assert_eq!(Value::parse(&bytes), Ok(value));
            assert!(Value::parse(&bytes[..bytes.len() - 1]).is_err());
            if len > Value::MIN_BYTES {
                let mut damaged = bytes.to_vec();
                *damaged.last_mut().unwrap() ^= 1;
                assert!(Value::parse(&damaged).is_err());
            }
        }
    }
}
