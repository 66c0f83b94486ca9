"""What the commands measure, a module each by the command's name: from images and extractors to measurements."""
