// Package pattern matches Lua 5.1 patterns within a budget. A pattern is compiled once; while it is matched every step is
// charged to whoever asked, so that an expensive pattern ends when a deadline passes and not when it pleases.
package pattern
