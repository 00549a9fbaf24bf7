"""Estimating tokens where no provider can count them."""
