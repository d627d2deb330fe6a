"""Tests of vodsync, and the modules that several kinds of tests share."""
