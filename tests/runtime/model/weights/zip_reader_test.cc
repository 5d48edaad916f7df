// ZIP archives as torch.save writes them are read, and anything else is refused with its reason.
#include "runtime/model/weights/zip_reader.h"

#include <string>

#include <gtest/gtest.h>

#include "tests/runtime/model/weights/archive_bytes.h"
#include "tests/runtime/model/weights/safetensors_bytes.h"

namespace trireme {
namespace {

ZipBytes two_entries() {
  ZipBytes zip;
  zip.entries = {{"a/data.pkl", "pickle"}, {"a/data/0", "0123456789"}};
  return zip;
}

std::string_view text(const ZipEntry& entry) {
  return {reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size()};
}

void expect_read(const ZipBytes& zip) {
  const std::string file = zip.build();
  const auto reader = ZipReader::open(as_bytes(file));
  ASSERT_TRUE(reader.ok()) << reader.status().message();
  ASSERT_EQ(reader->entries().size(), 2u);
  EXPECT_EQ(text(*reader->find("a/data.pkl")), "pickle");
  EXPECT_EQ(text(*reader->find("a/data/0")), "0123456789");
  EXPECT_EQ(reader->find("a/data/1"), nullptr);
  for (const ZipEntry& entry : reader->entries()) EXPECT_TRUE(check_crc(entry).ok());
}

void expect_refused(const std::string& file, const std::string& why) {
  const auto reader = ZipReader::open(as_bytes(file));
  ASSERT_FALSE(reader.ok()) << why;
  EXPECT_NE(reader.status().message().find(why), std::string::npos) << reader.status().message();
}

TEST(ZipReader, ReadsStoredEntries) {
  expect_read(two_entries());
  ZipBytes zip = two_entries();
  zip.comment = "PK\5\6 a comment that looks like an end record";
  expect_read(zip);
  zip.entries[0].padding = std::string("FB\2\0ZZ", 6);  // torch aligns storages with such a field
  zip.entries[1].flags = 0x0808;                        // sizes behind the data, UTF-8 names
  expect_read(zip);
}

TEST(ZipReader, ReadsZip64) {
  ZipBytes zip = two_entries();
  zip.zip64_end = true;
  expect_read(zip);
  zip.entries[1].zip64 = true;
  zip.entries[1].extra = std::string("xx\2\0yy", 6);  // another extra field comes first
  expect_read(zip);
}

TEST(ZipReader, ReadsAnEmptyArchiveAndEmptyEntries) {
  EXPECT_TRUE(ZipReader::open(as_bytes(ZipBytes().build())).ok());
  ZipBytes zip;
  zip.entries = {{"empty", ""}, {"also", ""}};
  const std::string file = zip.build();
  const auto reader = ZipReader::open(as_bytes(file));
  ASSERT_TRUE(reader.ok());
  EXPECT_TRUE(check_crc(*reader->find("empty")).ok());
}

TEST(ZipReader, DamagedBytesAreSeenByTheChecksum) {
  ZipBytes zip = two_entries();
  zip.entries[1].crc ^= 1;
  const std::string file = zip.build();
  const auto reader = ZipReader::open(as_bytes(file));
  ASSERT_TRUE(reader.ok());
  EXPECT_TRUE(check_crc(*reader->find("a/data.pkl")).ok());
  const Status damaged = check_crc(*reader->find("a/data/0"));
  EXPECT_NE(damaged.message().find("'a/data/0' has checksum"), std::string::npos);
}

TEST(ZipReader, RefusesWhatTorchDoesNotWrite) {
  ZipBytes zip = two_entries();
  zip.entries[0].method = 8;
  expect_refused(zip.build(), "is compressed (method 8)");
  zip = two_entries();
  zip.entries[0].flags = 1;
  expect_refused(zip.build(), "is encrypted");
  zip = two_entries();
  zip.disk = 1;
  expect_refused(zip.build(), "split over several disks");
  zip.zip64_end = true;
  expect_refused(zip.build(), "split over several disks");
}

TEST(ZipReader, RefusesDamage) {
  ZipBytes zip = two_entries();
  zip.entries[1].name = "a/data.pkl";
  zip.entries[1].local_name = "a/data.pkl";
  expect_refused(zip.build(), "is there twice");
  zip = two_entries();
  zip.entries[1].local_name = "a/data/1";
  expect_refused(zip.build(), "another name in its local header");
  zip = two_entries();
  zip.entries[1].local_offset_shift = 1;
  expect_refused(zip.build(), "no local header");
  zip.entries[1].local_offset_shift = 1 << 30;
  expect_refused(zip.build(), "no local header");
  zip = two_entries();
  zip.entries[1].bytes = 11;
  expect_refused(zip.build(), "two sizes");
  zip.entries[1].stored_bytes = 11;  // one byte into the directory
  expect_refused(zip.build(), "reaches out of the archive");
  zip = two_entries();
  zip.entry_count_shift = 1;
  expect_refused(zip.build(), "directory is");
  zip = two_entries();
  zip.directory_offset_shift = 1;
  expect_refused(zip.build(), "directory");
  zip = two_entries();
  zip.entries[1].bytes = zip.entries[1].stored_bytes = 0xffffffff;  // and no ZIP64 field
  expect_refused(zip.build(), "lacks its ZIP64 sizes");
}

TEST(ZipReader, RefusesEntriesThatShareBytes) {  // how a small archive becomes a large one
  ZipBytes zip = two_entries();
  zip.entries[0].bytes = zip.entries[0].stored_bytes = 20;  // over the header of the second
  expect_refused(zip.build(), "share bytes");
}

TEST(ZipReader, EveryTruncationIsRefused) {
  for (const bool zip64 : {false, true}) {
    ZipBytes zip = two_entries();
    zip.zip64_end = zip64;
    zip.entries[1].zip64 = zip64;
    const std::string whole = zip.build();
    for (size_t size = 0; size < whole.size(); ++size) {
      const std::string cut = whole.substr(0, size);
      EXPECT_FALSE(ZipReader::open(as_bytes(cut)).ok()) << size;
    }
  }
  expect_refused("", "no ZIP archive");
  expect_refused(std::string(100'000, 'P'), "no ZIP archive");
}

}  // namespace
}  // namespace trireme
