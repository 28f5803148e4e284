"""Encoders whose weights are in a file: networks of timm and torchvision.

Nothing is ever fetched, and nothing unpickled: a file is named, or known by its SHA-256.
"""
