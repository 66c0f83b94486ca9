"""What every other room stands on: processes, devices, precision, random streams, files and errors."""
