//! The grammar of label selectors, with Kubernetes' error texts (`apimachinery/pkg/labels`).

use std::collections::BTreeSet;

use super::labels::{Requirement, Test};
use crate::api::validate::names;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Close,
    Open,
    Comma,
    Absent,
    Equal,
    NotEqual,
    In,
    NotIn,
    Greater,
    Less,
    Word(String),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Close => ")",
            Self::Open => "(",
            Self::Comma => ",",
            Self::Absent => "!",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::In => "in",
            Self::NotIn => "notin",
            Self::Greater => ">",
            Self::Less => "<",
            Self::Word(word) => word,
            Self::End => "",
        }
    }
}

/// Splits a text into tokens, `End` last.
fn tokens(text: &str) -> Result<Vec<Token>, String> {
    const SPECIAL: [char; 7] = ['=', '!', '(', ')', ',', '>', '<'];
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_special = SPECIAL.contains(&first);
        let end = rest
            .find(|c: char| c.is_whitespace() || SPECIAL.contains(&c) != is_special)
            .unwrap_or(rest.len());
        if is_special {
            // The longest operator at this place.
            let (token, length) = operator(&rest[..end])
                .ok_or_else(|| format!("error expected: keyword found '{}'", &rest[..1]))?;
            all.push(token);
            rest = &rest[length..];
        } else {
            all.push(match &rest[..end] {
                "in" => Token::In,
                "notin" => Token::NotIn,
                word => Token::Word(word.to_owned()),
            });
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    all.push(Token::End);
    Ok(all)
}

fn operator(text: &str) -> Option<(Token, usize)> {
    let all = [
        ("==", Token::Equal),
        ("!=", Token::NotEqual),
        ("=", Token::Equal),
        ("!", Token::Absent),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
        (">", Token::Greater),
        ("<", Token::Less),
    ];
    let found = all.into_iter().find(|(symbol, _)| text.starts_with(symbol));
    found.map(|(symbol, token)| (token, symbol.len()))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

/// Reads a selector's requirements; the error is Kubernetes' text without its prefix.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
    };
    let mut all = Vec::new();
    loop {
        match parser.peek() {
            Token::Word(_) | Token::In | Token::NotIn | Token::Absent => {
                all.push(parser.requirement()?);
                match parser.next() {
                    Token::End => return Ok(all),
                    Token::Comma => match parser.peek() {
                        Token::Word(_) | Token::In | Token::NotIn | Token::Absent => {}
                        other => {
                            return Err(found(&other, "identifier after ','"));
                        }
                    },
                    other => return Err(found(&other, "',' or 'end of string'")),
                }
            }
            Token::End => return Ok(all),
            other => return Err(found(&other, "!, identifier, or 'end of string'")),
        }
    }
}

fn found(token: &Token, expected: &str) -> String {
    format!("found '{}', expected: {expected}", token.text())
}

impl Parser {
    fn peek(&self) -> Token {
        self.tokens.get(self.at).cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.peek() == Token::Absent;
        if absent {
            self.next();
        }
        let key = self.word();
        let Some(key) = key else {
            return Err(found(&self.peek(), "identifier"));
        };
        if let Some(why) = names::qualified_name(&key).first() {
            return Err(format!("key: Invalid value: \"{key}\": {why}"));
        }
        if absent {
            let test = Test::Absent;
            return Ok(Requirement { key, test });
        }
        let test = match self.next() {
            end @ (Token::End | Token::Comma) => {
                self.at -= 1;
                let _ = end;
                Test::Exists
            }
            Token::In => Test::In(self.values(&key)?),
            Token::NotIn => Test::NotIn(self.values(&key)?),
            Token::Equal => Test::In(BTreeSet::from([self.exact(&key)?])),
            Token::NotEqual => Test::NotIn(BTreeSet::from([self.exact(&key)?])),
            Token::Greater => Test::Greater(self.number()?),
            Token::Less => Test::Less(self.number()?),
            other => return Err(found(&other, "in, notin, =, ==, !=, gt, lt")),
        };
        Ok(Requirement { key, test })
    }

    /// A word; after the key, keywords are words too.
    fn word(&mut self) -> Option<String> {
        let word = match self.peek() {
            Token::Word(word) => word,
            keyword @ (Token::In | Token::NotIn) => keyword.text().to_owned(),
            _ => return None,
        };
        self.at += 1;
        Some(word)
    }

    /// The value after an operator; nothing at all is the empty value.
    fn exact(&mut self, key: &str) -> Result<String, String> {
        match self.peek() {
            Token::End | Token::Comma => Ok(String::new()),
            _ => match self.word() {
                Some(value) => checked(key, value),
                None => Err(found(&self.peek(), "identifier")),
            },
        }
    }

    fn number(&mut self) -> Result<i64, String> {
        let word = self
            .word()
            .ok_or_else(|| found(&self.peek(), "identifier"))?;
        word.parse().map_err(|_| {
            format!("values[0][gt/lt]: Invalid value: \"{word}\": for 'Gt', 'Lt' operators, the value must be an integer")
        })
    }

    /// `(a, b, c)`; an empty place is the empty value.
    fn values(&mut self, key: &str) -> Result<BTreeSet<String>, String> {
        match self.next() {
            Token::Open => {}
            other => return Err(found(&other, "'('")),
        }
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                Token::Close => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    return Ok(values);
                }
                Token::Comma => {
                    values.insert(String::new());
                }
                word @ (Token::Word(_) | Token::In | Token::NotIn) => {
                    values.insert(checked(key, word.text().to_owned())?);
                    match self.next() {
                        Token::Close => return Ok(values),
                        Token::Comma if self.peek() == Token::Close => {
                            values.insert(String::new());
                        }
                        Token::Comma => {}
                        other => return Err(found(&other, "',' or ')'")),
                    }
                }
                other => return Err(found(&other, "',', ')' or identifier")),
            }
        }
    }
}

fn checked(key: &str, value: String) -> Result<String, String> {
    match names::label_value(&value).first() {
        None => Ok(value),
        Some(why) => Err(format!(
            "values[0][{key}]: Invalid value: \"{value}\": {why}"
        )),
    }
}
