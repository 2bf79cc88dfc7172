"""A study, and one that begins with its weights."""

BEFORE = """
dataset: digits
sizes: [50, 200]
seeds: 2
models:
  vit: {width: 32, depth: 1, heads: 2}
  deep: {arch: vit, width: 32, depth: 2, heads: 2}
  cnn: {channels: [4, 8], blocks: [1, 1]}
  timm/test_vit: {}
budget: {images_seen: 128}
recipe: {batch_size: 32}
"""
AFTER = """
dataset: digits
sizes: [100, 300]
seeds: 2
models:
  vit: &vit {arch: vit, width: 32, depth: 1, heads: 2}
  vit-50: {<<: *vit, pretrain: {study: before.yaml, n: 50}}
  vit-200: {<<: *vit, pretrain: {study: before.yaml, n: 200}}
  cnn: &cnn {arch: cnn, channels: [4, 8], blocks: [1, 1]}
  cnn-200: {<<: *cnn, pretrain: {study: before.yaml, n: 200, model: cnn}}
  tiny: {arch: timm/test_vit, pretrain: {study: before.yaml, n: 50}}
  linear: {}
budget: {images_seen: 128}
recipe: {batch_size: 32}
"""
