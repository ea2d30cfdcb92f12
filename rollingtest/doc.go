// Package rollingtest holds the tests of the rolling upgrade on simulated clusters: each fault alone, and random mixes of
// them drawn from a seed, with everything that must always hold looked at all the time. It has no code of its own.
package rollingtest
