"""A PLC as the line's peer, over Modbus TCP: trigger, result, acknowledgement, heartbeats."""
