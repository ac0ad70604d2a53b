"""Attachments as files: fetched once each into a bucket, and recorded in `attachment_files`."""

from linq_source.media.running import MediaReport, media

__all__ = ["MediaReport", "media"]
