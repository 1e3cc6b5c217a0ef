"""Tests of one kind; the folder says which."""
