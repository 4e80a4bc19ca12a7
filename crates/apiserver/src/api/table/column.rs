//! Column definitions.

use serde_json::{Value, json};

/// `metav1.TableColumnDefinition`.
pub(super) struct Column {
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    description: &'static str,
    /// 0: always shown; 1: only with `-o wide`.
    priority: u8,
}

impl Column {
    pub const NAME: Self = Self {
        name: "Name",
        kind: "string",
        format: "name",
        description: "Name must be unique within a namespace.",
        priority: 0,
    };
    pub const AGE: Self = Self::text("Age", "Time since the object was created.");

    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Self {
            name,
            kind: "string",
            format: "",
            description,
            priority: 0,
        }
    }

    pub const fn number(name: &'static str, description: &'static str) -> Self {
        let mut column = Self::text(name, description);
        column.kind = "integer";
        column
    }

    pub const fn flag(name: &'static str, description: &'static str) -> Self {
        let mut column = Self::text(name, description);
        column.kind = "boolean";
        column
    }

    /// Shown only with `-o wide`.
    pub const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    /// The object's name, in a column of another place than the first.
    pub const fn named(mut self) -> Self {
        self.format = "name";
        self
    }

    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority,
        })
    }
}
