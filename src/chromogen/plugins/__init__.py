"""Chromogen inside other programs."""
