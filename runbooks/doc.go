// Package runbooks is the language: it reads .hcl files, checks everything in them that can be checked without a
// connection, and evaluates them to an inventory and to the steps of package engine. The one main type is Document.
// It connects to nothing and knows no module but those it is given.
package runbooks
