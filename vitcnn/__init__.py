"""vitcnn"""
