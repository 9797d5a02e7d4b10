"""The GJSON path language, as tidwall/gjson (Go, MIT) defines it by what it does."""
