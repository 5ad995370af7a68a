//! Numbers in digits, for CONTENT_LENGTH.

/// A number in plain digits.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    /// The number.
    pub fn new(mut number: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut start = digits.len();
        for (place, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            start = place;
            if number == 0 {
                break;
            }
        }
        Decimal { digits, start }
    }

    /// Its digits, without leading zeros.
    pub fn digits(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain_digits() {
        for number in [0, 1, 9, 10, 42, 99_999, u64::MAX] {
            assert_eq!(Decimal::new(number).digits(), number.to_string().as_bytes());
        }
    }
}
